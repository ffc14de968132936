#!/bin/sh
# test_install.sh - the library as its users meet it: installed, moved, and found by pkg-config and by CMake.
#
#   test_install.sh STEP BUILD SOURCE [FLAGS...]
#
#   headers    each public header compiles alone, as C11 and as C++17, without a warning
#   install    installs BUILD into BUILD/install-test/first, then moves that to BUILD/install-test/moved
#   pkgconfig  the program in the head comment of vlcache.h, built by `cc` and pkg-config, answers a sample question
#   cmake      the same program, built by a CMake project that knows nothing but find_package(vlcache)
#   tools      the installed vlcache-run answers with the installed model; vlcache-info lists the devices
#   shared     a shared library exports the public functions and nothing else, and the program runs with it
#
# FLAGS are for the compiler: what BUILD itself was built with, if that must be linked too (-fsanitize=...).
set -eu
step=$1 build=$2 source=$3
shift 3
here=$build/install-test
prefix=$here/moved

# The kernels that the suites have built are found again.
export XDG_CACHE_HOME="$build/install-cache"
mkdir -p "$XDG_CACHE_HOME" "$build/kernel-cache"
ln -sfn ../kernel-cache "$XDG_CACHE_HOME/vlcache"

fail() {
    echo "test_install: $step: $*" >&2
    exit 1
}

expect() { # ANSWER WANTED
    [ "$1" = "$2" ] || fail "answered \"$1\", expected \"$2\""
}

# The sample that is asked about. What is tested is the installation, so it is one with a short answer, which any
# budget leaves as it is.
sample=pages-0
field() { sed -n "/\"id\": \"$sample\"/s/.*\"$1\": \[\{0,1\}\"\([^\"]*\)\".*/\1/p" "$source/tools/demo/samples/samples.jsonl"; }

# The program in the head comment, as it stands there.
example() {
    sed -n '/^ \*     #include/,/^ \*\//s/^ \*\( \{5\}\|$\)//p' "$source/include/vlcache/vlcache.h"
}

ask() { # PROGRAM PREFIX: its answer; a shared library is in no folder that the loader looks into
    LD_LIBRARY_PATH=$(dirname "$(find "$2" -name 'libvlcache.*' | head -n 1)")
    export LD_LIBRARY_PATH
    answer=$("$1" "$source/tools/demo/model" "$source/tools/demo/samples/$(field image)" "$(field question)") ||
        fail "$1: $answer"
    printf '%s' "$answer"
}

build_with_pkgconfig() { # PREFIX PROGRAM FLAGS...
    PKG_CONFIG_PATH=$(dirname "$(find "$1" -name vlcache.pc)")
    export PKG_CONFIG_PATH
    program=$2
    shift 2
    example >"$program.c"
    # shellcheck disable=SC2046
    cc -std=c11 -Wall -Wextra -Werror "$program.c" -o "$program" "$@" $(pkg-config --cflags --libs vlcache)
}

case $step in
headers)
    for header in "$source"/include/vlcache/*.h; do
        name=vlcache/$(basename "$header")
        echo "#include <$name>" | cc -std=c11 -x c -fsyntax-only -Wall -Wextra -pedantic -Werror "-I$source/include" - ||
            fail "$name alone, as C"
        echo "#include <$name>" | c++ -std=c++17 -x c++ -fsyntax-only -Wall -Wextra -pedantic -Werror "-I$source/include" - ||
            fail "$name alone, as C++"
    done
    ;;
install)
    rm -rf "$here"
    cmake --install "$build" --prefix "$here/first" >/dev/null
    ! grep -rIl "$here/first" "$here/first" | grep -v '/install_manifest' || fail "these files know the prefix"
    mv "$here/first" "$prefix"
    for file in bin/vlcache-run bin/vlcache-info include/vlcache/vlcache.h share/vlcache/model/config.json \
        share/vlcache/questions/questions.jsonl; do
        [ -s "$prefix/$file" ] || fail "$file is not installed"
    done
    ;;
pkgconfig)
    lines=$(example | wc -l)
    [ "$lines" -gt 20 ] || fail "no program in the head comment of vlcache.h"
    build_with_pkgconfig "$prefix" "$here/ask" "$@"
    expect "$(ask "$here/ask" "$prefix")" "$(field answers)"
    ;;
cmake)
    mkdir -p "$here/project"
    example >"$here/project/ask.c"
    cat >"$here/project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.22)
project(ask LANGUAGES C)
find_package(vlcache 0.1 REQUIRED)
add_executable(ask ask.c)
target_link_libraries(ask PRIVATE vlcache::vlcache)
END
    cmake -S "$here/project" -B "$here/project/build" "-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_C_FLAGS=$*" >/dev/null
    cmake --build "$here/project/build" >/dev/null
    expect "$(ask "$here/project/build/ask" "$prefix")" "$(field answers)"
    ;;
tools)
    expect "$("$prefix/bin/vlcache-run" --quiet --image "$source/tools/demo/samples/$(field image)" -p "$(field question)")" \
        "$(field answers)"
    "$prefix/bin/vlcache-info" --list-devices
    ;;
shared)
    shared=$here/shared
    cmake -S "$source" -B "$shared/build" -DBUILD_SHARED_LIBS=ON -DVLCACHE_BUILD_TESTS=OFF -DCMAKE_BUILD_TYPE=Debug \
        >/dev/null
    cmake --build "$shared/build" --parallel 2 >/dev/null
    cmake --install "$shared/build" --prefix "$shared/prefix" >/dev/null
    library=$(find "$shared/prefix" -name 'libvlcache.so')
    nm -D --defined-only "$library" | awk '{ print $3 }' | sort >"$shared/exported"
    sed -n 's/^VLCACHE_API .*[ *]\(vlcache_[a-z0-9_]*\)(.*/\1/p' "$source"/include/vlcache/*.h | sort >"$shared/public"
    diff "$shared/public" "$shared/exported" || fail "the library does not export the public functions (<) but these (>)"
    build_with_pkgconfig "$shared/prefix" "$shared/ask"
    expect "$(ask "$shared/ask" "$shared/prefix")" "$(field answers)"
    "$shared/prefix/bin/vlcache-info" --list-devices
    ;;
*)
    fail "no such step"
    ;;
esac
