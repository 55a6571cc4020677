// Rounding of float32 to whole numbers, ties to even.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

// Bits have to be numpy's: every operation on float32 rounds to float32.
static_assert(FLT_EVAL_METHOD == 0, "compile for float32 arithmetic (such as -mfpmath=sse)");

namespace mlic {

// `value` is within +-2^24. Compilers turn lrint into a call on plain x86-64. Adding and subtracting 1.5 * 2^23 would
// do, but where a product comes before it, compilers may fuse the two and round once.
inline int32_t rounded(float value) {
#if defined(__SSE__)
    return _mm_cvtss_si32(_mm_set_ss(value));
#else
    return static_cast<int32_t>(std::lrint(value));
#endif
}

}  // namespace mlic
