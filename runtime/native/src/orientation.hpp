// EXIF and XMP of a picture that has been turned upright: twin of runtime/orientation.py.
#pragma once

#include "metadata.hpp"

namespace mlic {

// Returns the metadata with orientations made 1, a thumbnail that lies another way taken out, and EXIF from its TIFF
// header on. All else stays as it was, byte for byte. Throws Failure(invalid_argument) if the EXIF is damaged, which
// Python leaves out with a warning.
Metadata upright(Metadata metadata);

}  // namespace mlic
