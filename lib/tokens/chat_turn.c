/*
 * chat_turn.c - a conversation -> messages -> text -> tokens, and of these the ones that are new.
 *
 *     "<s>USER: One ASSISTANT: Two</s>USER: Three ASSISTANT:"
 *      [ held by the cache   |Two][ the new turn             ]
 *
 * Every byte of a rendering knows whether the template wrote it, whether it was said, and whether the last
 * answer was it: so the new turn is what stands behind that.
 */
#include <string.h>

#include "core/alloc.h"
#include "tokens/chat.h"

/* ---- messages ------------------------------------------------------------------------------------------ */

/* Messages of a conversation, and room for their pieces. */
typedef struct draft {
    vlci_message *message;
    vlci_piece *piece;
    size_t n_pieces, room;
} draft;

static void draft_release(draft *d) {
    vlci_free(d->message);
    vlci_free(d->piece);
}

static vlcache_status add_piece(draft *d, vlci_piece_kind kind, const char *text, size_t bytes) {
    if (kind <= VLCI_PIECE_MARK && !bytes) return VLCACHE_OK;
    if (d->n_pieces == d->room) {
        vlci_piece *grown = vlci_realloc(d->piece, 2 * d->room + 16, sizeof *grown);
        if (!grown) return vlci_fail_memory("prompt");
        d->piece = grown;
        d->room = 2 * d->room + 16;
    }
    d->piece[d->n_pieces++] = (vlci_piece){.kind = kind, .text = text, .bytes = bytes};
    return VLCACHE_OK;
}

/* The next mark in the words from `at` on, and whether a backslash in front says that it is words too. */
static const char *next_mark(const char *words, const char *at, const char *mark, bool *escaped) {
    const char *found = strstr(at, mark);
    *escaped = found && found > words && found[-1] == '\\';
    return found;
}

static int count_marks(const char *words, const char *mark) {
    bool escaped = false;
    int n = 0;
    for (const char *at = words; (at = next_mark(words, at, mark, &escaped)); at += strlen(mark))
        n += !escaped;
    return n;
}

/* What is shown with a message: pictures, videos. */
enum { PICTURES, VIDEOS, SIGNS };

typedef struct sign {
    const char *mark; /* NULL: there is none of the kind */
    int n;
    bool placed; /* the words say where they stand */
    vlci_piece_kind kind;
} sign;

/* The next mark of either kind from `at` on. */
static const char *next_sign(const char *words, const char *at, const sign signs[SIGNS], const sign **of,
                             bool *escaped) {
    const char *first = NULL;
    for (int i = 0; i < SIGNS; i++) {
        bool behind = false;
        const char *found = signs[i].mark ? next_mark(words, at, signs[i].mark, &behind) : NULL;
        if (!found || (first && found >= first)) continue;
        first = found;
        *of = &signs[i];
        *escaped = behind;
    }
    return first;
}

/* The user's words; each mark of a kind that they place is a picture or a video. */
static vlcache_status add_words(draft *d, const char *words, const sign signs[SIGNS]) {
    vlcache_status status = VLCACHE_OK;
    const sign *of = NULL;
    bool escaped = false;
    const char *done = words, *at = words;
    while (!status && (at = next_sign(words, at, signs, &of, &escaped))) {
        size_t length = strlen(of->mark);
        const char *mark = at;
        at += length;
        if (!escaped && !of->placed) continue;
        status = add_piece(d, VLCI_PIECE_TEXT, done, (size_t)(mark - done) - escaped);
        if (!status && !escaped) status = add_piece(d, of->kind, of->mark, length);
        done = escaped ? mark : at;
    }
    return status ? status : add_piece(d, VLCI_PIECE_TEXT, done, strlen(done));
}

/* Pictures and videos in front of the words: as items, or as the mark and a line's end each. */
static vlcache_status add_signs(draft *d, const sign *s) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < s->n && !s->placed && !status; i++) {
        status = add_piece(d, s->kind, s->mark, strlen(s->mark));
        if (!status && s->kind == VLCI_PIECE_MARK) status = add_piece(d, VLCI_PIECE_MARK, "\n", 1);
    }
    return status;
}

/* Where the words have a mark for each picture, or for each video, these say where they stand. */
static vlcache_status add_user(const vlci_chat *chat, draft *d, const vlci_said *said) {
    const vlci_chat_form *form = &chat->form;
    sign signs[SIGNS] = {{.mark = chat->mark[PICTURES], .n = said->n_images},
                         {.mark = chat->mark[VIDEOS], .n = chat->mark[VIDEOS] ? said->n_videos : 0}};
    bool items = form->items[VLCI_USER];
    for (int i = 0; i < SIGNS; i++) {
        sign *s = &signs[i];
        s->placed = s->n > 0 && count_marks(said->text, s->mark) == s->n;
        if (s->n) items = items && form->sign[i].taken && (!s->placed || form->sign[i].interleaves);
    }
    signs[PICTURES].kind = items ? VLCI_PIECE_IMAGE : VLCI_PIECE_MARK;
    signs[VIDEOS].kind = items ? VLCI_PIECE_VIDEO : VLCI_PIECE_MARK;
    vlcache_status status = add_signs(d, &signs[PICTURES]);
    if (!status) status = add_signs(d, &signs[VIDEOS]);
    return status ? status : add_words(d, said->text, signs);
}

/* Pieces are counted first and pointed to last: the list moves while it grows. */
static vlcache_status write_draft(const vlci_chat *chat, const vlci_conversation *c, draft *d) {
    static const char *const roles[] = {"system", "user", "assistant"};
    vlcache_status status = VLCACHE_OK;
    *d = (draft){.message = vlci_calloc(c->n + 1, sizeof *d->message)};
    if (!d->message) return vlci_fail_memory("prompt");
    for (size_t i = 0; i < c->n && !status; i++) {
        const vlci_said *said = &c->at[i];
        size_t before = d->n_pieces;
        status = said->role == VLCI_USER ? add_user(chat, d, said)
                                         : add_piece(d, VLCI_PIECE_TEXT, said->text, strlen(said->text));
        d->message[i] = (vlci_message){.role = roles[said->role],
                                       .n_pieces = d->n_pieces - before,
                                       .items = chat->form.items[said->role]};
    }
    for (size_t i = 0, at = 0; i < c->n && !status; at += d->message[i++].n_pieces) {
        d->message[i].pieces = d->piece + at;
        bool last = c->at[i].role == VLCI_ASSISTANT && i + 2 >= c->n;
        for (size_t k = 0; k < d->message[i].n_pieces; k++) d->piece[at + k].answer = last;
    }
    return status;
}

static vlcache_status render(const vlci_chat *chat, const draft *d, size_t n, bool prompt,
                             vlci_rendered *out) {
    const vlci_rendering with = {
        .messages = d->message, .n_messages = n, .prompt = prompt, .variables = chat->variables, .now = -1};
    *out = (vlci_rendered){0};
    if (!chat->tpl) return vlci_fail(VLCACHE_E_FORMAT, "%s", chat->failure);
    return vlci_template_render(chat->tpl, &with, out);
}

vlcache_status vlci_chat_render(const vlci_chat *chat, const vlci_conversation *conversation, bool prompt,
                                vlci_rendered *out) {
    draft d;
    *out = (vlci_rendered){0};
    vlcache_status status = write_draft(chat, conversation, &d);
    if (!status) status = render(chat, &d, conversation->n, prompt, out);
    draft_release(&d);
    return status;
}

/* The same with a prompt for an answer, the marks of the last message's videos written out. */
static vlcache_status render_turn(const vlci_chat *chat, const vlci_conversation *c, vlci_rendered *out) {
    size_t n = (size_t)c->at[c->n - 1].n_videos;
    vlcache_status status = vlci_chat_render(chat, c, true, out);
    if (status || !c->written || !n) return status;
    status = vlci_rendered_replace(out, chat->mark[VIDEOS], c->written, n, NULL);
    if (status) vlci_rendered_release(out);
    return status;
}

/* ---- trying out ---------------------------------------------------------------------------------------- */

static const char word[] = "Vq7x", other[] = "Zk3w";

/* Whether a rendering succeeded; only a lack of memory is an error. */
static vlcache_status tried(vlcache_status status, bool *good) {
    *good = status == VLCACHE_OK;
    return status == VLCACHE_E_NO_MEMORY ? status : VLCACHE_OK;
}

static vlcache_status try_pieces(const vlci_chat *chat, vlci_role role, bool items, const vlci_piece *pieces,
                                 size_t n, vlci_rendered *out, bool *good) {
    const vlci_piece user = {.kind = VLCI_PIECE_TEXT, .text = "u", .bytes = 1};
    const vlci_message question = {"user", &user, 1, chat->form.items[VLCI_USER]};
    const vlci_message asked = {(const char *[]){"system", "user", "assistant"}[role], pieces, n, items};
    const vlci_message all[] = {role == VLCI_ASSISTANT ? question : asked,
                                role == VLCI_SYSTEM ? question : asked};
    const draft d = {.message = (vlci_message *)all};
    return tried(render(chat, &d, role == VLCI_USER ? 1 : 2, false, out), good);
}

/* Whether a role's content may be of a kind: it is then written as it stands, and not as Python would show a
 * list. */
static vlcache_status try_kind(const vlci_chat *chat, vlci_role role, bool items, bool *good) {
    const vlci_piece piece = {.kind = VLCI_PIECE_TEXT, .text = word, .bytes = strlen(word)};
    vlci_rendered text;
    vlcache_status status = try_pieces(chat, role, items, &piece, 1, &text, good);
    if (*good)
        *good = strstr(text.text, word) && !strstr(text.text, "'type'") && !strstr(text.text, "\"type\"");
    vlci_rendered_release(&text);
    return status;
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) n++;
    return n;
}

/* A picture or a video between two texts: one mark? between them? */
static vlcache_status try_sign(vlci_chat *chat, int kind) {
    const char *mark = chat->mark[kind];
    const vlci_piece pieces[] = {{.kind = VLCI_PIECE_TEXT, .text = word, .bytes = strlen(word)},
                                 {.kind = kind == VIDEOS ? VLCI_PIECE_VIDEO : VLCI_PIECE_IMAGE},
                                 {.kind = VLCI_PIECE_TEXT, .text = other, .bytes = strlen(other)}};
    vlci_rendered text;
    bool good;
    if (!mark) return VLCACHE_OK;
    vlcache_status status = try_pieces(chat, VLCI_USER, true, pieces, 3, &text, &good);
    if (good && count(text.text, mark) == 1) {
        const char *first = strstr(text.text, word), *at = strstr(text.text, mark);
        const char *second = strstr(text.text, other);
        chat->form.sign[kind].taken = first && second;
        chat->form.sign[kind].interleaves = first && second && first < at && at < second;
    }
    vlci_rendered_release(&text);
    return status;
}

static vlcache_status try_forms(vlci_chat *chat) {
    static const vlci_role order[] = {VLCI_USER, VLCI_ASSISTANT, VLCI_SYSTEM};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 3 && !status; i++) {
        bool items = false;
        if (i == 0 || chat->form.items[VLCI_USER]) status = try_kind(chat, order[i], true, &items);
        chat->form.items[order[i]] = items;
    }
    for (int kind = 0; kind < SIGNS && !status && chat->form.items[VLCI_USER]; kind++)
        status = try_sign(chat, kind);
    return status;
}

static size_t behind_answer(const vlci_rendered *text);
static vlcache_status encode(const vlci_chat *chat, const vlci_rendered *text, size_t begin, size_t end,
                             bool add_special, int32_t **ids, size_t *n);

/* What the template writes right behind an answer, if that is one special token. */
static vlcache_status find_end(vlci_chat *chat) {
    const vlci_piece piece = {.kind = VLCI_PIECE_TEXT, .text = word, .bytes = strlen(word), .answer = true};
    vlci_rendered text;
    int32_t *ids = NULL;
    size_t n = 0;
    bool good;
    vlcache_status status =
        try_pieces(chat, VLCI_ASSISTANT, chat->form.items[VLCI_ASSISTANT], &piece, 1, &text, &good);
    size_t at = good ? behind_answer(&text) : 0;
    while (at && at < text.bytes && strchr(" \n", text.text[at]) && text.text[at]) at++;
    if (at && at < text.bytes) status = encode(chat, &text, at, text.bytes, false, &ids, &n);
    if (!status && n && vlci_tokenizer_is_special(chat->tokenizer, ids[0])) chat->end = ids[0];
    vlci_free(ids);
    vlci_rendered_release(&text);
    return status;
}

/* Whether anything of a question is written. */
static vlcache_status try_words(vlci_chat *chat) {
    const vlci_piece piece = {.kind = VLCI_PIECE_TEXT, .text = word, .bytes = strlen(word)};
    vlci_rendered text;
    bool good;
    vlcache_status status = try_pieces(chat, VLCI_USER, chat->form.items[VLCI_USER], &piece, 1, &text, &good);
    chat->mute = good && (!text.bytes || !memchr(text.whose, VLCI_BYTE_WORDS, text.bytes));
    vlci_rendered_release(&text);
    return status;
}

vlcache_status vlci_chat_try(vlci_chat *chat) {
    vlcache_status status = try_forms(chat);
    if (!status) status = try_words(chat);
    return status ? status : find_end(chat);
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

/* Stretches of one kind: [begin, end) of a rendering, in new memory. */
static vlcache_status part(const vlci_rendered *text, size_t begin, size_t end, vlci_text_part **parts,
                           size_t *n) {
    size_t room = 1;
    for (size_t i = begin + 1; i < end; i++) room += !text->whose[i] != !text->whose[i - 1];
    *n = 0;
    *parts = vlci_alloc(room, sizeof **parts);
    if (!*parts) return vlci_fail_memory("prompt");
    for (size_t i = begin, next; i < end; i = next) {
        for (next = i + 1; next < end && !text->whose[next] == !text->whose[i];) next++;
        (*parts)[(*n)++] = (vlci_text_part){text->text + i, next - i, text->whose[i] != VLCI_BYTE_TEMPLATE};
    }
    return VLCACHE_OK;
}

static vlcache_status encode(const vlci_chat *chat, const vlci_rendered *text, size_t begin, size_t end,
                             bool add_special, int32_t **ids, size_t *n) {
    vlci_text_part *parts = NULL;
    size_t n_parts;
    vlcache_status status = part(text, begin, end, &parts, &n_parts);
    if (!status) status = vlci_tokenizer_encode_parts(chat->tokenizer, parts, n_parts, add_special, ids, n);
    vlci_free(parts);
    return status;
}

/* Bytes of BOS in front of a text. */
static size_t bos_of(const vlci_chat *chat, const vlci_rendered *text) {
    const char *bos = json_string_value(json_object_get(chat->variables, "bos_token"));
    return bos && strncmp(text->text, bos, strlen(bos)) == 0 ? strlen(bos) : 0;
}

/* Whether the tokenizer adds BOS: not where the template has it. */
static bool adds_special(const vlci_chat *chat, const vlci_rendered *text) {
    return bos_of(chat, text) == 0;
}

/* ---- the new turn -------------------------------------------------------------------------------------- */

static size_t before_answer(const vlci_rendered *text) {
    size_t at = 0;
    while (at < text->bytes && text->whose[at] != VLCI_BYTE_ANSWER) at++;
    return at;
}

/* 0: the answer is not in it. */
static size_t behind_answer(const vlci_rendered *text) {
    size_t at = text->bytes;
    while (at > 0 && text->whose[at - 1] != VLCI_BYTE_ANSWER) at--;
    return at;
}

static size_t without_space(const char *text, size_t n) {
    while (n && strchr(" \t\r\n", text[n - 1]) && text[n - 1]) n--;
    return n;
}

static size_t space(const char *text, size_t n) {
    size_t i = 0;
    while (i < n && text[i] && strchr(" \t\r\n", text[i])) i++;
    return i;
}

/* Whether the answer stands behind `held` as it was given, but for white space around it. */
static bool follows(const vlci_rendered *all, const vlci_rendered *held, const char *answer) {
    size_t begin = before_answer(all), end = behind_answer(all), n = strlen(answer);
    size_t a = without_space(all->text, begin), b = without_space(held->text, held->bytes);
    if (a != b || memcmp(all->text, held->text, a)) return false;
    size_t head = space(answer, n), tail = without_space(answer, n);
    begin += space(all->text + begin, end - begin);
    end = without_space(all->text, end);
    return tail - head == end - begin && memcmp(answer + head, all->text + begin, tail - head) == 0;
}

/* The tokens behind byte `at`: those of all behind those of what comes before it, where the two agree; a
 * tokenizer that looks across the cut gives those of the rest alone. */
static vlcache_status encode_behind(const vlci_chat *chat, const vlci_rendered *all, size_t at,
                                    vlci_chat_turn *out) {
    int32_t *before = NULL, *whole = NULL;
    size_t n_before = 0, n = 0;
    bool special = adds_special(chat, all);
    vlcache_status status = encode(chat, all, 0, at, special, &before, &n_before);
    if (!status) status = encode(chat, all, 0, all->bytes, special, &whole, &n);
    bool agree = !status && n >= n_before && memcmp(before, whole, n_before * sizeof *whole) == 0;
    if (agree) {
        memmove(whole, whole + n_before, (n - n_before) * sizeof *whole);
        out->ids = whole;
        out->n = n - n_before;
        whole = NULL;
    } else if (!status) {
        status = encode(chat, all, at, all->bytes, false, &out->ids, &out->n);
    }
    vlci_free(before);
    vlci_free(whole);
    return status;
}

/* The last question as if it were the first, without BOS: of a template that shows no answers. */
static vlcache_status encode_question(const vlci_chat *chat, const vlci_conversation *past,
                                      vlci_chat_turn *out) {
    const vlci_conversation c = {.at = past->at + past->n - 1, .n = 1, .written = past->written};
    vlci_rendered all;
    vlcache_status status = render_turn(chat, &c, &all);
    if (!status) status = encode(chat, &all, bos_of(chat, &all), all.bytes, false, &out->ids, &out->n);
    vlci_rendered_release(&all);
    return status;
}

/* A turn whose past is not known, or which the template does not show: it stands behind an answer, as any. */
static vlcache_status encode_alone(const vlci_chat *chat, const vlci_conversation *past,
                                   vlci_chat_turn *out) {
    vlci_said said[] = {
        {VLCI_USER, (char *)word, 0, 0}, {VLCI_ASSISTANT, (char *)other, 0, 0}, past->at[past->n - 1]};
    const vlci_conversation c = {.at = said, .n = 3, .written = past->written};
    vlci_rendered all;
    vlcache_status status = render_turn(chat, &c, &all);
    size_t at = status ? 0 : behind_answer(&all);
    if (!status) status = at ? encode_behind(chat, &all, at, out) : encode_question(chat, past, out);
    vlci_rendered_release(&all);
    return status;
}

static vlcache_status encode_first(const vlci_chat *chat, const vlci_conversation *c, vlci_chat_turn *out) {
    vlci_rendered all;
    vlcache_status status = render_turn(chat, c, &all);
    if (!status) status = encode(chat, &all, 0, all.bytes, adds_special(chat, &all), &out->ids, &out->n);
    vlci_rendered_release(&all);
    return status;
}

static vlcache_status encode_later(const vlci_chat *chat, const vlci_conversation *c, vlci_chat_turn *out) {
    vlci_rendered all = {0}, held = {0};
    vlci_conversation before = *c;
    const char *answer = c->at[c->n - 2].text;
    before.n = c->n - 2;
    vlcache_status status = render_turn(chat, c, &all);
    if (!status) status = vlci_chat_render(chat, &before, true, &held);
    size_t at = status ? 0 : behind_answer(&all);
    bool silent = !status && space(answer, strlen(answer)) == strlen(answer);
    if (!at && silent && all.bytes > held.bytes && memcmp(all.text, held.text, held.bytes) == 0) {
        at = held.bytes;
    } else if (!status) {
        out->rewritten = !at || !follows(&all, &held, answer);
    }
    if (!status) status = at ? encode_behind(chat, &all, at, out) : encode_alone(chat, c, out);
    vlci_rendered_release(&all);
    vlci_rendered_release(&held);
    return status;
}

static bool shows_videos(const vlci_conversation *c) {
    bool any = false;
    for (size_t i = 0; i < c->n; i++) any = any || c->at[i].n_videos;
    return any;
}

vlcache_status vlci_chat_encode(const vlci_chat *chat, const vlci_conversation *c, vlci_chat_turn *out) {
    *out = (vlci_chat_turn){0};
    if (chat->of_videos && shows_videos(c)) chat = chat->of_videos;
    if (c->lost) return encode_alone(chat, c, out);
    bool later = c->n > 2 && c->at[c->n - 2].role == VLCI_ASSISTANT;
    return later ? encode_later(chat, c, out) : encode_first(chat, c, out);
}
