# Writes OUTPUT, a C file with the text of each kernel file in KERNELS as a byte array and a table of them.
# Byte arrays, because string literals have a length limit in C.
set(table "")
set(text "/* Generated from cl/ by embed.cmake. */\n#include \"device/device.h\"\n")
foreach(path IN LISTS KERNELS)
  get_filename_component(name ${path} NAME)
  string(MAKE_C_IDENTIFIER ${name} symbol)
  file(READ ${path} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND text "static const char ${symbol}[] = {${bytes}0};\n")
  string(APPEND table "    {\"${name}\", ${symbol}, sizeof ${symbol} - 1},\n")
endforeach()
string(APPEND text "const vlci_kernel_source vlci_kernel_sources[] = {\n${table}    {0, 0, 0},\n};\n")
file(WRITE ${OUTPUT} "${text}")
