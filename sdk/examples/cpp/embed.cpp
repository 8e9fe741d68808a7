// Embed the chains of a PDB file: embed MODEL.onnx FILE.pdb [CHAIN]; a line of JSON a chain on standard output.
//
// The graph holds all of the features; a program passes C-alphas, residue types and residue indices, and gets
// what Python gets. Reading is simpler than the Python package's: the first model, 20 amino acids and
// selenomethionine, of alternative locations the one of highest occupancy.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

const std::string kAlphabet = "ACDEFGHIKLMNPQRSTVWYX";

const std::map<std::string, char> kLetters = {
    {"ALA", 'A'}, {"CYS", 'C'}, {"ASP", 'D'}, {"GLU", 'E'}, {"PHE", 'F'}, {"GLY", 'G'}, {"HIS", 'H'},
    {"ILE", 'I'}, {"LYS", 'K'}, {"LEU", 'L'}, {"MET", 'M'}, {"ASN", 'N'}, {"PRO", 'P'}, {"GLN", 'Q'},
    {"ARG", 'R'}, {"SER", 'S'}, {"THR", 'T'}, {"VAL", 'V'}, {"TRP", 'W'}, {"TYR", 'Y'}, {"MSE", 'M'},
};

// Beyond this distance in angstrom consecutive C-alphas are not bonded, and author numbers tell what is missing.
constexpr double kBreakDistance = 4.3;

struct Residue {
  std::string key;  // number and insertion code
  int number;
  char letter;
  std::array<double, 3> xyz;
  double occupancy;
};

struct Chain {
  std::string name;
  std::vector<Residue> residues;
};

struct Embedding {
  std::vector<float> protein;  // (width of protein)
  std::vector<float> residue;  // (L, width of residue)
  std::vector<float> profile;  // (L, 20), of models of contract 2
};

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

std::vector<Chain> read_pdb(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  std::vector<Chain> chains;
  for (std::string line; std::getline(file, line);) {
    line.resize(80, ' ');
    const std::string record = trimmed(line.substr(0, 6));
    if (record == "ENDMDL") break;
    if (record != "ATOM" && record != "HETATM") continue;
    if (line.substr(12, 4) != " CA ") continue;  // calcium stands a column further left
    const auto letter = kLetters.find(trimmed(line.substr(17, 3)));
    if (letter == kLetters.end() && record == "HETATM") continue;
    const std::string name = trimmed(line.substr(21, 1));
    if (chains.empty() || chains.back().name != name) {
      bool known = false;
      for (const Chain& chain : chains) known = known || chain.name == name;
      if (known) continue;  // ligands of a chain that has ended
      chains.push_back({name, {}});
    }
    const Residue residue = {
        line.substr(22, 5),
        std::stoi(line.substr(22, 4)),
        letter == kLetters.end() ? 'X' : letter->second,
        {std::stod(line.substr(30, 8)), std::stod(line.substr(38, 8)), std::stod(line.substr(46, 8))},
        std::atof(line.substr(54, 6).c_str()),
    };
    std::vector<Residue>& residues = chains.back().residues;
    if (residues.empty() || residues.back().key != residue.key) {
      residues.push_back(residue);
    } else if (residue.occupancy > residues.back().occupancy) {
      residues.back() = residue;
    }
  }
  return chains;
}

double distance(const Residue& a, const Residue& b) {
  return std::hypot(a.xyz[0] - b.xyz[0], a.xyz[1] - b.xyz[1], a.xyz[2] - b.xyz[2]);
}

Embedding embed(Ort::Session& session, const Chain& chain) {
  const auto length = static_cast<std::int64_t>(chain.residues.size());
  if (length < 3) throw std::runtime_error("chain '" + chain.name + "' is too short to embed; 3 residues are needed");
  std::array<double, 3> centre{};
  for (const Residue& residue : chain.residues)
    for (int axis = 0; axis < 3; ++axis) centre[axis] += residue.xyz[axis] / static_cast<double>(length);

  std::vector<float> coords;  // centred before the cast: float32 keeps seven digits
  std::vector<std::int64_t> types, index;
  for (std::size_t i = 0; i < chain.residues.size(); ++i) {
    const Residue& residue = chain.residues[i];
    for (int axis = 0; axis < 3; ++axis) coords.push_back(static_cast<float>(residue.xyz[axis] - centre[axis]));
    types.push_back(static_cast<std::int64_t>(kAlphabet.find(residue.letter)));
    if (i == 0) {
      index.push_back(0);
      continue;
    }
    const Residue& before = chain.residues[i - 1];
    const bool broken = distance(residue, before) > kBreakDistance;
    index.push_back(index.back() + (broken ? std::max(residue.number - before.number, 1) : 1));
  }

  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<std::int64_t, 3> coords_shape{1, length, 3};
  const std::array<std::int64_t, 2> shape{1, length};
  std::vector<Ort::Value> feeds;
  feeds.push_back(Ort::Value::CreateTensor<float>(memory, coords.data(), coords.size(), coords_shape.data(), 3));
  for (std::vector<std::int64_t>* values : {&types, &index})
    feeds.push_back(
        Ort::Value::CreateTensor<std::int64_t>(memory, values->data(), values->size(), shape.data(), 2));

  const std::array<const char*, 3> inputs{"ca_coords", "residue_type", "residue_index"};
  std::vector<const char*> outputs{"protein", "residue"};  // the pair map is not handed over
  Ort::AllocatorWithDefaultOptions allocator;
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
    if (std::string(session.GetOutputNameAllocated(i, allocator).get()) == "profile") outputs.push_back("profile");
  const auto found =
      session.Run(Ort::RunOptions{}, inputs.data(), feeds.data(), 3, outputs.data(), outputs.size());
  const auto values = [](const Ort::Value& value) {
    const float* data = value.GetTensorData<float>();
    return std::vector<float>(data, data + value.GetTensorTypeAndShapeInfo().GetElementCount());
  };
  return {values(found[0]), values(found[1]), found.size() > 2 ? values(found[2]) : std::vector<float>{}};
}

void print(const std::string& name, const std::vector<float>& values) {
  std::cout << ",\"" << name << "\":[";
  for (std::size_t i = 0; i < values.size(); ++i) std::cout << (i ? "," : "") << values[i];
  std::cout << "]";
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: embed MODEL.onnx FILE.pdb [CHAIN]\n";
    return 2;
  }
  try {
    const Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "protemb");
    Ort::Session session(env, arguments[1], Ort::SessionOptions{});
    std::cout << std::setprecision(9);
    for (const Chain& chain : read_pdb(arguments[2])) {
      if (count > 3 && chain.name != arguments[3]) continue;
      const Embedding embedding = embed(session, chain);
      std::cout << "{\"chain\":\"" << chain.name << "\",\"length\":" << chain.residues.size();
      print("protein", embedding.protein);
      print("residue", embedding.residue);
      if (!embedding.profile.empty()) print("profile", embedding.profile);
      std::cout << "}\n";
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
