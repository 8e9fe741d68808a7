// Embed the chains of a structure file: node node.mjs FILE [CHAIN] [MODEL.onnx]; JSON on standard output.
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { embed, inputsOf, readChains } from "./protemb.mjs";

const MODEL = new URL("../../protemb_sdk/bundled/base.onnx", import.meta.url).pathname;
const [file, wanted, model = MODEL] = process.argv.slice(2);
const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
const found = [];
for (const [chain, residues] of readChains(await readFile(file, "utf8"))) {
  if (wanted !== undefined && chain !== wanted) continue;
  const embedding = await embed(ort, session, residues);
  const inputs = inputsOf(residues);
  found.push({
    file,
    chain,
    ca_coords: [...inputs.ca_coords],
    residue_type: [...inputs.residue_type].map(Number),
    residue_index: [...inputs.residue_index].map(Number),
    protein: [...embedding.protein],
    residue: [...embedding.residue],
    ...(embedding.profile && { profile: [...embedding.profile] }),
  });
}
console.log(JSON.stringify(found));
