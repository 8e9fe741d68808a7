// Protein structure embeddings: a PDB or mmCIF file in, vectors out. For Node and browsers alike.
//
// The graph holds all of the features; a program passes C-alphas, residue types and residue indices, and gets
// what Python gets. Reading is simpler than the Python package's: the first model, 20 amino acids and
// selenomethionine, of alternative locations the one of highest occupancy.

export const ALPHABET = "ACDEFGHIKLMNPQRSTVWYX";

const LETTERS = {
  ALA: "A", CYS: "C", ASP: "D", GLU: "E", PHE: "F", GLY: "G", HIS: "H", ILE: "I", LYS: "K", LEU: "L",
  MET: "M", ASN: "N", PRO: "P", GLN: "Q", ARG: "R", SER: "S", THR: "T", VAL: "V", TRP: "W", TYR: "Y",
  MSE: "M",
};

// Beyond this distance in angstrom consecutive C-alphas are not bonded, and author numbers tell what is missing.
const BREAK_DISTANCE = 4.3;

/**
 * Return the text of a file, unzipped if it is gzipped.
 * @param {ArrayBuffer | Uint8Array} content
 * @returns {Promise<string>}
 */
export async function textOf(content) {
  const bytes = new Uint8Array(content);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return new TextDecoder().decode(bytes);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    return await new Response(stream).text();
  } catch {
    throw new Error("the gzip stream is damaged or truncated; fetch the file again");
  }
}

/**
 * Read the protein chains of a structure.
 * @param {string} text Content of a PDB or mmCIF file.
 * @returns {Map<string, {number: number, code: string, residue: string, xyz: number[]}[]>} Residues by author chain.
 */
export function readChains(text) {
  const isCif = /^\s*(#.*\s*)*data_/.test(text);
  const chains = new Map();
  for (const atom of isCif ? cifAtoms(text) : pdbAtoms(text)) {
    if (atom.name !== "CA" || atom.element === "CA" || (!LETTERS[atom.residue] && atom.hetero)) continue;
    if (!chains.has(atom.chain)) chains.set(atom.chain, new Map());
    const residues = chains.get(atom.chain);
    const key = `${atom.number}${atom.code}`;
    const there = residues.get(key);
    if (!there || atom.occupancy > there.occupancy) residues.set(key, atom);
  }
  return new Map([...chains].map(([chain, residues]) => [chain, [...residues.values()]]));
}

function* pdbAtoms(text) {
  for (const line of text.split(/\r?\n/)) {
    const record = line.slice(0, 6).trim();
    if (record === "ENDMDL") return;
    if (record !== "ATOM" && record !== "HETATM") continue;
    yield {
      hetero: record === "HETATM",
      name: line.slice(12, 16).trim(),
      element: line.slice(12, 14) === "CA" ? "CA" : "", // calcium stands a column further left
      residue: line.slice(17, 20).trim(),
      chain: line.slice(21, 22).trim(),
      number: parseInt(line.slice(22, 26), 10),
      code: line.slice(26, 27).trim(),
      xyz: [30, 38, 46].map((at) => parseFloat(line.slice(at, at + 8))),
      occupancy: parseFloat(line.slice(54, 60)) || 0,
    };
  }
}

function* cifAtoms(text) {
  const lines = text.split(/\r?\n/);
  const start = lines.findIndex((line) => line.startsWith("_atom_site."));
  const columns = {};
  let at = start;
  for (let place = 0; lines[at]?.startsWith("_atom_site."); at++, place++) {
    columns[lines[at].trim().slice("_atom_site.".length)] = place;
  }
  let model;
  for (; at < lines.length && !/^(#|_|loop_|data_)/.test(lines[at]); at++) {
    const words = [...lines[at].matchAll(/'((?:[^']|'(?=\S))*)'|"((?:[^"]|"(?=\S))*)"|(\S+)/g)].map(
      (match) => match[1] ?? match[2] ?? match[3],
    );
    if (!words.length) continue;
    const get = (name) => words[columns[name]] ?? "?";
    const known = (value) => (value === "?" || value === "." ? "" : value);
    model ??= get("pdbx_PDB_model_num");
    if (get("pdbx_PDB_model_num") !== model) return;
    yield {
      hetero: get("group_PDB") === "HETATM",
      name: get("label_atom_id"),
      element: get("type_symbol").toUpperCase(),
      residue: known(get("auth_comp_id")) || get("label_comp_id"),
      chain: known(get("auth_asym_id")) || get("label_asym_id"),
      number: parseInt(known(get("auth_seq_id")) || get("label_seq_id"), 10),
      code: known(get("pdbx_PDB_ins_code")),
      xyz: ["Cartn_x", "Cartn_y", "Cartn_z"].map((name) => parseFloat(get(name))),
      occupancy: parseFloat(get("occupancy")) || 0,
    };
  }
}

/**
 * Return what the graph takes of a chain (export/README.md).
 * @param {{number: number, residue: string, xyz: number[]}[]} residues As `readChains` gives them.
 * @returns {{ca_coords: Float32Array, residue_type: BigInt64Array, residue_index: BigInt64Array}}
 */
export function inputsOf(residues) {
  const length = residues.length;
  const centre = [0, 1, 2].map((axis) => residues.reduce((sum, r) => sum + r.xyz[axis], 0) / length);
  const coords = new Float32Array(3 * length); // centred before the cast: float32 keeps seven digits
  const types = new BigInt64Array(length);
  const index = new BigInt64Array(length);
  residues.forEach((residue, i) => {
    residue.xyz.forEach((value, axis) => { coords[3 * i + axis] = value - centre[axis]; });
    types[i] = BigInt(ALPHABET.indexOf(LETTERS[residue.residue] ?? "X"));
    if (i === 0) return;
    const before = residues[i - 1];
    const distance = Math.hypot(...residue.xyz.map((value, axis) => value - before.xyz[axis]));
    const step = distance > BREAK_DISTANCE ? Math.max(residue.number - before.number, 1) : 1;
    index[i] = index[i - 1] + BigInt(step);
  });
  return { ca_coords: coords, residue_type: types, residue_index: index };
}

/**
 * Embed a chain.
 * @param ort onnxruntime-node or onnxruntime-web.
 * @param session An InferenceSession of an embedding graph of protemb's.
 * @param residues As `readChains` gives them; at least three.
 * @returns {Promise<{protein: Float32Array, residue: Float32Array, profile?: Float32Array, length: number,
 *   channels: number}>} `residue` is length x channels, a row a residue. Models of contract 2 have a profile, length
 *   x 20: log probabilities of the types ACDEFGHIKLMNPQRSTVWY.
 */
export async function embed(ort, session, residues) {
  const length = residues.length;
  if (length < 3) throw new Error(`a chain of ${length} residues is too short to embed; 3 are needed`);
  const { ca_coords, residue_type, residue_index } = inputsOf(residues);
  const feeds = {
    ca_coords: new ort.Tensor("float32", ca_coords, [1, length, 3]),
    residue_type: new ort.Tensor("int64", residue_type, [1, length]),
    residue_index: new ort.Tensor("int64", residue_index, [1, length]),
  };
  // The pair map is not asked for, so it is not handed over.
  const outputs = ["protein", "residue", "profile"].filter((name) => session.outputNames.includes(name));
  const found = await session.run(feeds, outputs);
  const vectors = Object.fromEntries(outputs.map((name) => [name, found[name].data]));
  return { ...vectors, length, channels: found.residue.dims[2] };
}
