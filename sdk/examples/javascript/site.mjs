// Put the static page together: node site.mjs [FOLDER]; any web server serves the folder as it is.
import { copyFile, mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const out = process.argv[2] ?? "site";
const files = [
  "index.html",
  "protemb.mjs",
  "node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
  "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
  "../../protemb_sdk/bundled/base.onnx",
];
await mkdir(out, { recursive: true });
for (const file of files) {
  await copyFile(fileURLToPath(new URL(file, import.meta.url)), join(out, basename(file)));
}
console.log(out);
