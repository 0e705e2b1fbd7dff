# moesmith_cuda_library(NAME folder... [DEPENDS lib...]): a static library of the .cu files under the folders.
# CMake 3.25 knows no C++20 flag for nvcc 13: it must not insist, and the flag is given by hand.
function(moesmith_cuda_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  set(sources)
  foreach(folder ${ARG_UNPARSED_ARGUMENTS})
    file(GLOB_RECURSE found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cu)
    list(APPEND sources ${found})
  endforeach()
  add_library(${name} STATIC ${sources})
  set_target_properties(${name} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED OFF)
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 -Werror=all-warnings>)
  target_link_libraries(${name} PUBLIC moesmith_flags ${ARG_DEPENDS} CUDA::cudart_static)
endfunction()
