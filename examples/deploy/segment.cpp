// Segment a photograph: segment STANDALONE.onnx PHOTOGRAPH.ppm CLASSES.pgm
// CMakeLists.txt says how to build it against the wheel of OpenVINO. PPM and PGM are pictures without
// compression: `convert cat.jpg cat.ppm` makes one.

#include <chrono>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Picture {
  std::size_t height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // height × width × RGB
};

Picture read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  std::size_t most = 0;
  Picture picture;
  file >> kind >> picture.width >> picture.height >> most;
  file.get();  // the one blank before the pixels
  if (!file || kind != "P6" || most != 255) throw std::runtime_error(path + ": expected a PPM file of bytes (P6)");
  picture.pixels.resize(picture.height * picture.width * 3);
  file.read(reinterpret_cast<char*>(picture.pixels.data()), picture.pixels.size());
  if (!file) throw std::runtime_error(path + ": ends before its last pixel");
  return picture;
}

int main(int count, char** arguments) try {
  if (count != 4) throw std::runtime_error("usage: segment STANDALONE.onnx PHOTOGRAPH.ppm CLASSES.pgm");
  Picture picture = read(arguments[2]);
  ov::Core core;
  // Processors with bf16 round to it by default.
  ov::CompiledModel model = core.compile_model(
      arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
  ov::InferRequest request = model.create_infer_request();
  // The graph resizes and normalises; a graph for one size refuses pictures of another.
  ov::Shape shape{1, picture.height, picture.width, 3};
  request.set_tensor("image", ov::Tensor(ov::element::u8, shape, picture.pixels.data()));

  request.infer();  // the first time takes longer
  auto began = std::chrono::steady_clock::now();
  request.infer();
  std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - began;
  std::cout << "openvino " << ov::get_openvino_version().buildNumber << ": " << time.count() << " ms\n";

  ov::Tensor classes = request.get_tensor("classes");
  std::ofstream file(arguments[3], std::ios::binary);
  file << "P5\n" << picture.width << ' ' << picture.height << "\n255\n";
  file.write(reinterpret_cast<const char*>(classes.data<std::uint8_t>()), classes.get_byte_size());
  if (!file.flush()) throw std::runtime_error(std::string(arguments[3]) + ": could not be written");
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
