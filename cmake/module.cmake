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
if(MOESMITH_DEVELOPER)
  target_compile_options(moesmith_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()

function(moesmith_isa_flags)
  foreach(file ${ARGN})
    foreach(isa avx2 avx512 avx512_bf16)
      if(file MATCHES "_${isa}\\.cc$")
        set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${MOESMITH_ISA_FLAGS_${isa}}")
      endif()
    endforeach()
  endforeach()
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
  moesmith_isa_flags(${sources})
  add_library(moesmith_${name} STATIC ${sources})
  target_link_libraries(moesmith_${name} PUBLIC moesmith_flags ${ARG_DEPENDS})
endfunction()
