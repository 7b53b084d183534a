// Bytes that come from outside, and how they and numbers are shown to a person or a program.
#ifndef PRECLOSE_CLI_TEXT_H
#define PRECLOSE_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// Bytes of somebody else's memory; not terminated.
struct slice {
    const char *at;
    size_t n;
};

struct slice slice_of(const char *text); // NULL is empty
bool slice_is(struct slice s, const char *text);
bool slice_same(struct slice a, struct slice b);
bool slice_begins(struct slice s, const char *prefix);

// Where text first occurs in s; NULL if nowhere.
const char *slice_find(struct slice s, const char *text);

// The part of s before the first c, which *s then begins behind; all of it, and *s empty, if there is none.
struct slice slice_cut(struct slice *s, char c);

// The part of a path behind its last '/'.
struct slice slice_base(struct slice path);

// A decimal number and nothing else: false if it is none, or out of range.
bool slice_number(struct slice s, int64_t *number);

// Writes s so that a terminal shows it and does nothing else: control characters and bytes that are not UTF-8
// are escaped as in JSON.
void put_safe(FILE *out, struct slice s);

// Writes s as a JSON string, with its quotes.
void put_json(FILE *out, struct slice s);

// The members of a JSON object as they come: the key with a comma in front where one is needed.
struct json_out {
    FILE *out;
    bool more; // a comma is due
};

// Begins and ends an object '{' or an array '['; key may be NULL inside an array.
void out_open(struct json_out *o, const char *key, char bracket);
void out_close(struct json_out *o, char bracket);
void out_string(struct json_out *o, const char *key, struct slice s);
void out_number(struct json_out *o, const char *key, int64_t number);
void out_bool(struct json_out *o, const char *key, bool value);

// Numbers for people, in a buffer of the caller's, which is returned: "1,234,567", "3.9 MB", "2 h 3 min",
// "2026-11-21 11:22:18" (UTC).
enum { NUMBER_MAX = 40 };
const char *text_count(char out[NUMBER_MAX], uint64_t n);
const char *text_bytes(char out[NUMBER_MAX], uint64_t n);
const char *text_ms(char out[NUMBER_MAX], int64_t ms);
const char *text_time(char out[NUMBER_MAX], int64_t us);

// The words of s, wrapped to width columns; the first line goes on from column, further ones begin at indent.
void put_wrapped(FILE *out, struct slice s, int indent, int column, int width);

// How wide the terminal behind descriptor fd is; 100 columns where it is none.
int text_width(int fd);

#endif
