// The address of a socket as ss(8) shows it, and as a person would type it.
#ifndef PRECLOSE_ADDRESS_H
#define PRECLOSE_ADDRESS_H

#include <stddef.h>

#include "probe.h"

#define ADDRESS_TEXT_MAX 112

// Writes a into text: "127.0.0.1:80", "[::1]:80" (RFC 5952), "[fe80::1%2]:80" with the number of the
// interface, the path of a unix socket, "@name" for an abstract one (every NUL shown as '@', as ss does).
// Not terminated; a unix name is any bytes. Returns the length; 0 if there is no address or it is of
// another family. Pure, async-signal-safe, no lock.
size_t address_text(const struct address *a, char text[ADDRESS_TEXT_MAX]);

#endif
