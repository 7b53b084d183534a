// Text as roff takes it, on standard output.
#ifndef PRECLOSE_DOCS_ROFF_H
#define PRECLOSE_DOCS_ROFF_H

// What is roff already. Lines are broken in roff_text only.
void roff(const char *s);

// A hyphen that may be copied stays one, no line is a request, and none is long.
void roff_text(const char *s);
void roff_bold(const char *s);
void roff_italic(const char *s);

// "act on every close" → "Act on every close." and the end of the line. One with a stop gets no second.
void roff_sentence(const char *s);

// "[OPTION]... PID": what stands for something else, in capitals, in italics.
void roff_operands(const char *s);

// The head of an entry: its name, and in brackets more, unless that is "".
void roff_head(const char *name, const char *more);

// "always|blocked|never" → "Takes always, blocked or never"
void roff_values(const char *s);

#endif
