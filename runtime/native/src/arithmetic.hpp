// The arithmetics of an entropy path, what a step hands to the coder and what a file carries for its decoder: twin of
// runtime/arithmetic.py, whose head says what they are.
#pragma once

#include <cstdint>
#include <string>

namespace mlic {

struct Arithmetic {
    const char *name;   // as manifests have it
    uint8_t code;       // as byte 5 of a file has it
    const char *chunk;  // critical chunk of a file that is about its indexes
    const char *given;  // what a step gives to the coder beside means
    const char *dtype;  // of that
};

inline constexpr Arithmetic float32_syndrome{"float32-syndrome", 1, "SYND", "scales", "float32"};
inline constexpr Arithmetic integer_arithmetic{"integer", 2, "CHCK", "indexes", "uint8"};
inline constexpr const Arithmetic *arithmetics[] = {&float32_syndrome, &integer_arithmetic};

// The arithmetic of a name or of a code; null for others.
inline const Arithmetic *arithmetic_named(const std::string &name) {
    for (const Arithmetic *one : arithmetics)
        if (name == one->name) return one;
    return nullptr;
}

inline const Arithmetic *arithmetic_of_code(uint8_t code) {
    for (const Arithmetic *one : arithmetics)
        if (code == one->code) return one;
    return nullptr;
}

}  // namespace mlic
