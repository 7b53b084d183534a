// The page: a template (page.html) with the report for programs inside, which its script shows.
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "view.h"

// The template, linked in as it is. Its mark stands where the data go.
__asm__(".pushsection .rodata\n"
        "page_start:\n"
        ".incbin \"cli/page.html\"\n"
        "page_end:\n"
        ".balign 4\n"
        "page_length: .long page_end - page_start\n"
        ".popsection\n");
extern const char page_start[];
extern const uint32_t page_length;

// '<' can stand only inside strings of JSON. Escaped there, it can't end the script.
static void put_for_script(FILE *out, struct slice json)
{
    while (json.n) {
        const struct slice part = slice_cut(&json, '<');
        fwrite(part.at, 1, part.n, out);
        if (json.n) fputs("\\u003c", out);
    }
}

void report_html(const struct view *v, FILE *out)
{
    static const char mark[] = "@DATA@";
    char *json;
    size_t size;
    FILE *memory = need(open_memstream(&json, &size));
    report_json(v, memory, true);
    if (fclose(memory) != 0) need(NULL);
    const struct slice page = {page_start, page_length};
    const char *data = slice_find(page, mark);
    if (data) {
        const size_t before = (size_t)(data - page.at), behind = before + strlen(mark);
        fwrite(page.at, 1, before, out);
        put_for_script(out, (struct slice){json, size});
        fwrite(page.at + behind, 1, page.n - behind, out);
    }
    free(json);
}
