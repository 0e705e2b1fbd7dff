# Writes the header TO with the commit of the checkout SOURCE, and leaves it alone when it has not changed.
execute_process(COMMAND git describe --always --dirty --abbrev=7 --exclude=* WORKING_DIRECTORY ${SOURCE}
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
endif()
file(WRITE ${TO}.new "#pragma once\n#define MOESMITH_COMMIT \"${commit}\"\n")
file(COPY_FILE ${TO}.new ${TO} ONLY_IF_DIFFERENT)
