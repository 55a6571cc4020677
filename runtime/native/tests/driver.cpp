// Runs commands from standard input through mlic.h, for tests/native/test_native.py: one line a command, its words
// separated by tabs; one line an answer, a status and the last error's text.
//
//     open CODEC BUNDLE LIBONNXRUNTIME THREADS [TILE_PIXELS LATENT_PIXELS MAX_PIXELS CERTIFICATE_CACHE]
//     open-memory CODEC BUNDLE LIBONNXRUNTIME THREADS
//     encode CODEC PIXELS WIDTH HEIGHT FILE        decode CODEC FILE PIXELS
//     encode-with CODEC PIXELS WIDTH HEIGHT FILE CHANNELS SOURCE ICC EXIF XMP    the last three are files or "-"
//     region CODEC FILE PIXELS X Y WIDTH HEIGHT    header FILE
//     info FILE OUT                                metadata FILE ICC EXIF XMP
//     threads CODEC THREADS REPEATS FILE           prepare CODEC
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "mlic.hpp"

namespace {

using Data = std::vector<std::uint8_t>;
using Words = std::vector<std::string>;

Data read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return Data(std::istreambuf_iterator<char>(file), {});
}

void write_file(const std::string &path, const Data &data) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char *>(data.data()), static_cast<std::streamsize>(data.size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// A codec, and the bundle's files if it lies in memory.
struct Opened {
    std::map<std::string, Data> files;
    std::unique_ptr<mlic::Codec> codec;
};

mlic::Options options_from(const Words &words) {
    mlic::Options options;
    options.onnxruntime = words.at(3);
    options.threads = std::stoi(words.at(4));
    if (words.size() > 5) options.tile_pixels = std::stoull(words.at(5));
    if (words.size() > 6) options.latent_pixels = std::stoull(words.at(6));
    if (words.size() > 7) options.max_pixels = std::stoull(words.at(7));
    if (words.size() > 8) options.certificate_cache = words.at(8);
    return options;
}

Opened open_in_memory(const std::string &folder, const mlic::Options &options) {
    Opened opened;
    for (const auto &entry : std::filesystem::recursive_directory_iterator(folder))
        if (entry.is_regular_file())
            opened.files[entry.path().lexically_relative(folder).generic_string()] = read_file(entry.path().string());
    std::vector<mlic::File> files;
    for (const auto &file : opened.files) files.push_back({file.first.c_str(), file.second.data(), file.second.size()});
    opened.codec = std::make_unique<mlic::Codec>(files, options);
    return opened;
}

// Decodes as the wrapper does, but for what it says of files whose header cannot be read: what mlic_decode says.
Data decode(mlic::Codec &codec, const Data &file) {
    mlic_header header;
    const bool readable = mlic_read_header(file.data(), file.size(), 0, &header) == MLIC_OK;
    Data pixels(readable ? std::size_t{3} * header.width * header.height : 1);
    mlic::check(mlic_decode(codec.get(), file.data(), file.size(), pixels.data(), pixels.size(), 0));
    return pixels;
}

std::uint32_t number(const std::string &word) { return static_cast<std::uint32_t>(std::stoul(word)); }

// A file may be empty, but the wrapper takes that for none; the C function does not.
Data encode_with(mlic::Codec &codec, const Words &words) {
    mlic_encode_options options = MLIC_ENCODE_OPTIONS_INIT;
    std::vector<Data> files;
    for (std::size_t word = 8; word < 11; ++word) {
        files.push_back(words.at(word) == "-" ? Data() : read_file(words.at(word)));
        files.back().reserve(1);  // so that an empty file has an address
    }
    const auto give = [&](std::size_t place, const void *&data, std::size_t &size) {
        if (words.at(8 + place) == "-") return;
        data = files[place].data();
        size = files[place].size();
    };
    give(0, options.icc_profile, options.icc_profile_size);
    give(1, options.exif, options.exif_size);
    give(2, options.xmp, options.xmp_size);
    options.channels = number(words.at(6));
    options.source = number(words.at(7));
    const Data pixels = read_file(words.at(2));
    std::size_t bound = 0, size = 0;
    mlic::check(mlic_encode_bound_with(codec.get(), number(words.at(3)), number(words.at(4)), &options, &bound));
    Data file(bound);
    mlic::check(mlic_encode_with(codec.get(), pixels.data(), number(words.at(3)), number(words.at(4)), 0, &options,
                                 file.data(), file.size(), &size));
    file.resize(size);
    return file;
}

Data text_of(const mlic::Info &info) {
    std::ostringstream text;
    text << info.width << ' ' << info.height << ' ' << info.source << ' ' << info.cell_width << ' ' << info.cell_height
         << ' ' << info.icc_profile_size << ' ' << info.exif_size << ' ' << info.xmp_size << ' ' << info.arithmetic;
    const std::string all = text.str();
    return Data(all.begin(), all.end());
}

// Decodes a file and encodes the picture in several threads at once; all of them have to get the same.
void use_from_threads(mlic::Codec &codec, int count, int repeats, const Data &file) {
    std::vector<std::string> problems(static_cast<std::size_t>(count));
    std::vector<std::thread> threads;
    const mlic::Picture expected = codec.decode(file.data(), file.size());
    const Data expected_file = codec.encode(expected.pixels.data(), expected.width, expected.height);
    for (std::string &problem : problems)
        threads.emplace_back([&codec, &expected, &expected_file, &file, &problem, repeats] {
            try {
                for (int i = 0; i < repeats; ++i) {
                    const mlic::Picture found = codec.decode(file.data(), file.size());
                    if (found.pixels != expected.pixels) problem = "a thread decoded another picture";
                    if (codec.encode(found.pixels.data(), found.width, found.height) != expected_file)
                        problem = "a thread wrote another file";
                    Data cut(file.begin(), file.end() - 1);
                    try {
                        codec.decode(cut.data(), cut.size());
                        problem = "a thread decoded half a file";
                    } catch (const mlic::Error &error) {
                        if (std::strstr(error.what(), "needs") == nullptr) problem = error.what();
                    }
                }
            } catch (const std::exception &error) {
                problem = error.what();
            }
        });
    for (std::thread &thread : threads) thread.join();
    for (const std::string &problem : problems)
        if (!problem.empty()) throw std::runtime_error(problem);
}

void run(const Words &words, std::map<std::string, Opened> &codecs) {
    const std::string &command = words.at(0);
    if (command == "open") {
        codecs[words.at(1)].codec = std::make_unique<mlic::Codec>(words.at(2), options_from(words));
    } else if (command == "open-memory") {
        codecs[words.at(1)] = open_in_memory(words.at(2), options_from(words));
    } else if (command == "prepare") {
        codecs.at(words.at(1)).codec->prepare();
    } else if (command == "encode") {
        const auto width = static_cast<std::uint32_t>(std::stoul(words.at(3)));
        const auto height = static_cast<std::uint32_t>(std::stoul(words.at(4)));
        write_file(words.at(5), codecs.at(words.at(1)).codec->encode(read_file(words.at(2)).data(), width, height));
    } else if (command == "decode") {
        write_file(words.at(3), decode(*codecs.at(words.at(1)).codec, read_file(words.at(2))));
    } else if (command == "encode-with") {
        write_file(words.at(5), encode_with(*codecs.at(words.at(1)).codec, words));
    } else if (command == "region") {
        const Data file = read_file(words.at(2));
        const mlic::Region region{number(words.at(4)), number(words.at(5)), number(words.at(6)), number(words.at(7))};
        write_file(words.at(3), codecs.at(words.at(1)).codec->decode(file.data(), file.size(), region).pixels);
    } else if (command == "info") {
        const Data file = read_file(words.at(1));
        write_file(words.at(2), text_of(mlic::read_info(file.data(), file.size())));
    } else if (command == "metadata") {
        const Data file = read_file(words.at(1));
        const mlic::Metadata metadata = mlic::read_metadata(file.data(), file.size());
        write_file(words.at(2), metadata.icc_profile);
        write_file(words.at(3), metadata.exif);
        write_file(words.at(4), metadata.xmp);
    } else if (command == "header") {
        const Data file = read_file(words.at(1));
        mlic::read_header(file.data(), file.size());
    } else if (command == "threads") {
        use_from_threads(*codecs.at(words.at(1)).codec, std::stoi(words.at(2)), std::stoi(words.at(3)),
                         read_file(words.at(4)));
    } else {
        throw std::runtime_error("unknown command " + command);
    }
}

}  // namespace

int main() {
    std::map<std::string, Opened> codecs;
    std::string line;
    while (std::getline(std::cin, line)) {
        Words words;
        std::istringstream stream(line);
        for (std::string word; std::getline(stream, word, '\t');) words.push_back(word);
        try {
            run(words, codecs);
            std::cout << "0\t\n";
        } catch (const mlic::Error &error) {
            std::cout << error.status() << '\t' << error.what() << '\n';
        } catch (const std::bad_alloc &) {
            std::cout << MLIC_OUT_OF_MEMORY << "\tnot enough memory\n";
        } catch (const std::exception &error) {
            std::cout << "-1\t" << error.what() << '\n';
        }
        std::cout.flush();
    }
}
