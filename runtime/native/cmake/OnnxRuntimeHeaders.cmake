# Finds the folder of onnxruntime_c_api.h: ONNXRUNTIME_ROOT (of CMake or the environment), pkg-config, the system.
# Sets ONNXRUNTIME_INCLUDE_DIR. The library itself is not needed to build.
set(onnxruntime_roots ${ONNXRUNTIME_ROOT} $ENV{ONNXRUNTIME_ROOT})
if(NOT onnxruntime_roots)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(onnxruntime_pc QUIET libonnxruntime)
  endif()
endif()
# As in ONNX Runtime's releases, in Debian, in Debian's package unpacked somewhere, and in its own source
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
          HINTS ${onnxruntime_roots} ${onnxruntime_pc_INCLUDE_DIRS}
          PATH_SUFFIXES include include/onnxruntime usr/include/onnxruntime onnxruntime
                        include/onnxruntime/core/session
          DOC "Folder of onnxruntime_c_api.h")
if(NOT ONNXRUNTIME_INCLUDE_DIR)
  message(FATAL_ERROR
    "The headers of ONNX Runtime were not found (onnxruntime_c_api.h). "
    "Set ONNXRUNTIME_ROOT to a release of ONNX Runtime, or to the folder where Debian's libonnxruntime-dev was unpacked: "
    "cmake -DONNXRUNTIME_ROOT=/opt/onnxruntime ... "
    "In a clone of the project, `make native` fetches them.")
endif()
file(STRINGS "${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h" onnxruntime_api REGEX "#define ORT_API_VERSION [0-9]+")
string(REGEX REPLACE ".*ORT_API_VERSION ([0-9]+).*" "\\1" onnxruntime_api "${onnxruntime_api}")
if(onnxruntime_api LESS 20)
  message(FATAL_ERROR "${ONNXRUNTIME_INCLUDE_DIR} has the headers of ONNX Runtime 1.${onnxruntime_api}; "
                      "expected 1.20 or later")
endif()
message(STATUS "ONNX Runtime headers: ${ONNXRUNTIME_INCLUDE_DIR} (1.${onnxruntime_api})")
