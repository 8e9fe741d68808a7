// Embed the chains of a structure file: node node.mjs FILE [CHAIN] [MODEL.onnx]; JSON on standard output.
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { embed, inputsOf, readChains, textOf } from "./protemb.mjs";

const MODEL = new URL("../../protemb_sdk/bundled/base.onnx", import.meta.url).pathname;
const [file, wanted, model = MODEL] = process.argv.slice(2);

async function main() {
  const chains = [...readChains(await textOf(await readFile(file)))];
  const chosen = chains.filter(([chain]) => wanted === undefined || chain === wanted);
  if (!chosen.length) {
    const names = chains.map(([chain]) => chain || "without a name").join(", ");
    throw new Error(names ? `has no chain ${wanted}, only ${names}` : "holds no protein chain as PDB or mmCIF");
  }
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
  const found = [];
  for (const [chain, residues] of chosen) {
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
}

if (file === undefined) {
  console.error("error: pass a structure file: node node.mjs FILE [CHAIN] [MODEL.onnx]");
  process.exitCode = 2;
} else {
  await main().catch((error) => {
    console.error(`error: ${file}: ${error.message}`);
    process.exitCode = 1;
  });
}
