// Reads JSON (RFC 8259) in place, one container at a time, without memory of its own.
//
// The libraries that Debian has were measured on logs of findings (MB/s of CPU time): jansson 79, json-c 144:
// they build a tree that is thrown away with the line. yajl does 578, and has had no release since 2014;
// simdjson 1085, and would bring a C++ compiler and runtime with it.
#ifndef PRECLOSE_CLI_JSON_H
#define PRECLOSE_CLI_JSON_H

#include <stdbool.h>

#include "text.h"

enum json_type { JSON_STRING, JSON_NUMBER, JSON_OBJECT, JSON_ARRAY, JSON_WORD }; // WORD: true, false, null

// A value that is well-formed, all the way down.
struct json_value {
    enum json_type type;
    bool escaped;      // a string with escapes in it: json_unescape
    struct slice text; // a string without its quotes; anything else as it stands
};

// Where in a container the reader is.
struct json {
    const char *at, *end;
    bool begun;
    bool bad; // not JSON, or deeper than 64 levels: nothing more comes
};

// Begins on a container: text must be an object '{' or an array '[', with nothing but space around it. What
// is inside is looked at only as it is asked for.
struct json json_open(struct slice text);

// The next member of an object, or element of an array. Returns false at its end, and if j->bad, which also
// says that something stands behind the end. A key is given as it is written, escapes and all.
bool json_member(struct json *j, struct slice *key, struct json_value *value);
bool json_element(struct json *j, struct json_value *value);

// A string, quotes and all, at the beginning of *s: moves *s behind it. False, and *s as it was, if there is
// none.
bool json_string(struct slice *s, struct json_value *value);

// A string without its escapes into out, which must have room for text.n bytes. Returns its length. A
// surrogate without its other half becomes U+FFFD.
size_t json_unescape(struct slice text, char *out);

#endif
