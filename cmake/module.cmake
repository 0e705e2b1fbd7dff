# moesmith_module(NAME [DEPENDS lib...]): one static library per folder of src/, its sources found by pattern.
# A file's name carries its instruction set (`*_avx2.cc`, `*_avx512.cc`, `*_avx512_bf16.cc`): only that file is
# compiled with it, and on other processors it is left out, so one binary runs on every x86-64.
set(MOESMITH_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(MOESMITH_ISA_FLAGS_avx512
    -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
set(MOESMITH_ISA_FLAGS_avx512_bf16 ${MOESMITH_ISA_FLAGS_avx512} -mavx512bf16)

add_library(moesmith_flags INTERFACE)
target_include_directories(moesmith_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
target_compile_options(moesmith_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlapping copies in std::string's own code (GCC's bug 105651).
  target_compile_options(moesmith_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(MOESMITH_DEVELOPER)
  target_compile_options(moesmith_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()

function(moesmith_isa_flags)
  foreach(file ${ARGN})
    foreach(isa avx2 avx512 avx512_bf16)
      if(file MATCHES "_${isa}\\.cc$")
        set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${MOESMITH_ISA_FLAGS_${isa}}"
                                    SKIP_PRECOMPILE_HEADERS ON)
      endif()
    endforeach()
  endforeach()
endfunction()

# The standard headers that most files read are compiled once: a third off a cold build. Not in a developer's build,
# where every file must include what it uses. Files with instruction-set flags of their own cannot share them.
function(moesmith_precompile target)
  if(MOESMITH_DEVELOPER)
    return()
  endif()
  if(target STREQUAL "moesmith_core")
    target_precompile_headers(${target} PRIVATE <algorithm> <cstdint> <filesystem> <functional> <map> <memory> <optional>
                              <span> <sstream> <string> <string_view> <utility> <variant> <vector>)
  else()
    target_precompile_headers(${target} REUSE_FROM moesmith_core)
  endif()
endfunction()

function(moesmith_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
    list(FILTER sources EXCLUDE REGEX "_(avx2|avx512|avx512_bf16)\\.cc$")
  endif()
  foreach(pattern ${ARG_EXCLUDE})
    list(FILTER sources EXCLUDE REGEX "${pattern}")
  endforeach()
  if(NOT sources)
    add_library(moesmith_${name} INTERFACE)
    target_link_libraries(moesmith_${name} INTERFACE moesmith_flags ${ARG_DEPENDS})
    return()
  endif()
  moesmith_isa_flags(${sources})
  add_library(moesmith_${name} STATIC ${sources})
  target_link_libraries(moesmith_${name} PUBLIC moesmith_flags ${ARG_DEPENDS})
  moesmith_precompile(moesmith_${name})
endfunction()
