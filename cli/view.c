#include "view.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "say.h"

const char *place_name(enum place place)
{
    static const char *const names[] = {
        [PLACE_OPENED] = "opened", [PLACE_CLOSED] = "closed", [PLACE_USED] = "used"};
    return names[place];
}

struct view_other view_other(const char *name)
{
    struct slice rest = slice_of(name + 1);
    const enum place place = (enum place)(name[0] - '0');
    const struct slice call = slice_cut(&rest, '\n');
    return (struct view_other){place, call, rest};
}

static void want_frames(struct view *v, struct slice at)
{
    while (at.n) symbols_want(v->symbols, slice_cut(&at, '\n'));
}

static void want_places(struct view *v)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct group *g = v->groups[i];
        want_frames(v, slice_of(g->at));
        for (unsigned k = 0; k < g->others.n; k++) want_frames(v, view_other(g->others.of[k].name).at);
    }
    for (const struct leak *l = v->tally->leaks; l; l = l->hh.next) want_frames(v, slice_of(l->at));
}

void view_start(struct view *v)
{
    v->groups = tally_sorted(v->tally, &v->n);
    memset(v->totals, 0, sizeof v->totals);
    for (size_t i = 0; i < v->n; i++) v->totals[v->groups[i]->class] += group_total(v->groups[i]);
    memset(v->unwritten, 0, sizeof v->unwritten);
    for (const struct event_count *e = v->tally->events; e; e = e->hh.next)
        v->unwritten[class_of(e->event)] += event_unwritten(e);
    if (!v->symbols) return;
    want_places(v);
    symbols_find(v->symbols);
}

void view_end(struct view *v)
{
    free(v->groups);
    v->groups = NULL;
}

// A path below the current directory, without that.
static const char *near(const char *path)
{
    static char cwd[4096];
    if (!cwd[0] && !getcwd(cwd, sizeof cwd)) return path;
    const size_t n = strlen(cwd);
    return n > 1 && strncmp(path, cwd, n) == 0 && path[n] == '/' ? path + n + 1 : path;
}

static void put_symbol(FILE *out, const struct symbol *s)
{
    put_safe(out, slice_of(s->function ? s->function : "?"));
    if (!s->file) return;
    fputs(" (", out);
    put_safe(out, slice_of(near(s->file)));
    if (s->line) fprintf(out, ":%d", s->line);
    putc(')', out);
}

static const struct place_symbols *known(const struct view *v, struct slice frame)
{
    const struct place_symbols *p = v->symbols ? symbols_of(v->symbols, frame) : NULL;
    return p && p->n ? p : NULL;
}

void view_put_frame(const struct view *v, FILE *out, struct slice frame, const char *separator)
{
    const struct place_symbols *p = known(v, frame);
    if (!p) {
        put_safe(out, slice_base(frame));
        return;
    }
    put_symbol(out, &p->symbol[0]);
    for (unsigned i = 1; separator && i < p->n; i++) {
        fputs(separator, out);
        put_symbol(out, &p->symbol[i]);
    }
}

void view_put_place(const struct view *v, FILE *out, const char *call, const char *at)
{
    const struct slice frame = frames_main(slice_of(at));
    put_safe(out, slice_of(*call ? call : frame.n ? "" : "a call"));
    if (!frame.n) return;
    if (*call) fputs(known(v, frame) ? " in " : " at ", out);
    view_put_frame(v, out, frame, NULL);
}

// Writes text with every "module+0xoffset" of the frames (in a sentence a module goes by its file name)
// named.
static void put_named(const struct view *v, FILE *out, struct slice text, const struct slice *frame,
                      unsigned n)
{
    while (text.n) {
        unsigned i = 0;
        struct slice base = {0};
        for (; i < n; i++) {
            base = slice_base(frame[i]);
            if (text.n >= base.n && memcmp(text.at, base.at, base.n) == 0 &&
                (text.n == base.n || !strchr("0123456789abcdef", text.at[base.n])))
                break;
        }
        if (i < n)
            view_put_frame(v, out, frame[i], NULL);
        else
            fwrite(text.at, 1, 1, out);
        text.at += i < n ? base.n : 1;
        text.n -= i < n ? base.n : 1;
    }
}

char *view_sentence(const struct view *v, const struct group *g)
{
    enum { FRAMES = 1 + NAMES_MAX };
    struct slice frame[FRAMES], rest = slice_of(g->at);
    unsigned n = 0;
    char *text;
    size_t size;
    frame[n] = slice_cut(&rest, '\n');
    if (known(v, frame[n])) n++;
    for (unsigned i = 0; i < g->others.n; i++) {
        rest = view_other(g->others.of[i].name).at;
        frame[n] = slice_cut(&rest, '\n');
        if (known(v, frame[n])) n++;
    }
    FILE *out = need(open_memstream(&text, &size));
    put_named(v, out, slice_of(g->text), frame, n);
    if (fclose(out) != 0) need(NULL);
    return text;
}
