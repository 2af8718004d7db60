/* SPDX-License-Identifier: Apache-2.0
 *
 * Who was heard at an address over UDP: see flow.h. A set-associative table without pointers; what
 * it forgets is only no longer known. */
#include "flow/flow.h"

enum { PHONE_WAYS = 4, PHONE_LINES = 4 };

/* NATs keep a UDP mapping for 30 s at the least since its last packet: an address that spoke within
 * this time is still the same phone's. */
static const dur_ns mapping_life = 25 * NS_S;

struct phone_entry {
    uint64_t key; /* of listener and address; 0 = free */
    uint32_t heard_s;
    uint8_t count;
    bool many; /* more lines than we remember: any is believed */
    uint32_t line[PHONE_LINES];
};
_Static_assert(sizeof(struct phone_entry) == 32, "two to a cache line");

struct phones {
    struct phone_entry *entry;
    uint32_t sets; /* a power of two */
    bool any;      /* somebody was noted, ever */
    struct hash_seed seed;
};

static uint32_t sets_for(uint32_t max)
{
    uint32_t sets = 1;
    while (sets < max / PHONE_WAYS && sets < 1U << 24)
        sets *= 2;
    return sets;
}

size_t phones_memory(uint32_t max)
{
    return sizeof(struct phones) + sizeof(struct phone_entry) * PHONE_WAYS * (size_t)sets_for(max) +
           64;
}

struct phones *phones_new(struct arena *mem, uint32_t max, struct hash_seed seed)
{
    struct phones *p = ARENA_NEW(mem, struct phones);
    if (p == NULL)
        return NULL;
    *p = (struct phones){.sets = sets_for(max), .seed = seed};
    p->entry = ARENA_ARRAY(mem, struct phone_entry, PHONE_WAYS * p->sets);
    return p->entry != NULL ? p : NULL;
}

static uint64_t phone_key(const struct phones *p, uint8_t listener, const struct addr *a)
{
    struct slice parts[2] = {slice_of(a, sizeof *a), slice_of(&listener, 1)};
    return siphash_parts(&p->seed, parts, 2) | 1;
}

static struct phone_entry *set_of(const struct phones *p, uint64_t key)
{
    return &p->entry[(size_t)(key >> 32 & (p->sets - 1)) * PHONE_WAYS];
}

static struct phone_entry *find(const struct phones *p, uint64_t key)
{
    struct phone_entry *set = set_of(p, key);
    for (unsigned i = 0; i < PHONE_WAYS; i++)
        if (set[i].key == key)
            return &set[i];
    return NULL;
}

static uint32_t seconds(mono_ns t)
{
    return (uint32_t)(t / NS_S);
}

/* Has it been silent for so long that somebody else may have its address by now? */
static bool is_silent(const struct phone_entry *at, mono_ns now)
{
    return mono_since(now, (mono_ns)at->heard_s * NS_S) > mapping_life;
}

static bool has_line(const struct phone_entry *at, uint32_t phone)
{
    for (unsigned i = 0; i < at->count; i++)
        if (at->line[i] == phone)
            return true;
    return false;
}

/* One phone has one instance, on all of its lines. */
static bool is_another(const struct phone_entry *at, uint32_t phone)
{
    for (unsigned i = 0; i < at->count; i++)
        if (at->line[i] != phone && ((at->line[i] | phone) & PHONE_BY_INSTANCE) != 0)
            return true;
    return false;
}

void phones_heard(struct phones *p, uint8_t listener, const struct addr *a, mono_ns now)
{
    if (!p->any)
        return; /* nobody registers here: no call pays for it */
    struct phone_entry *at = find(p, phone_key(p, listener, a));
    /* Only what follows closely shows that it is still the same one: after a silence it takes a
     * registration. */
    if (at != NULL && !is_silent(at, now))
        at->heard_s = seconds(now);
}

/* The place for an address that is not known: a free one of its set, or the longest silent. */
static struct phone_entry *place_of(const struct phones *p, uint64_t key)
{
    struct phone_entry *set = set_of(p, key), *at = set;
    for (unsigned i = 1; i < PHONE_WAYS; i++)
        if (set[i].key == 0 || (at->key != 0 && set[i].heard_s < at->heard_s))
            at = &set[i];
    return at;
}

static void add_line(struct phone_entry *at, uint32_t phone)
{
    if (has_line(at, phone))
        return;
    if (at->count == PHONE_LINES)
        at->many = true;
    else
        at->line[at->count++] = phone;
}

void phones_claim(struct phones *p, uint8_t listener, const struct addr *a, uint32_t phone)
{
    uint64_t key = phone_key(p, listener, a);
    struct phone_entry *at = find(p, key);
    p->any = true;
    if (at == NULL) {
        at = place_of(p, key);
        *at = (struct phone_entry){.key = key}; /* silent since ever */
        add_line(at, phone);
    } else if (at->count == 0 || is_another(at, phone)) {
        *at = (struct phone_entry){.key = key}; /* nobody */
    } else {
        add_line(at, phone);
    }
}

void phones_copy(struct phones *p, uint8_t listener, const struct addr *a, uint32_t phone,
                 enum phones_news news, mono_ns now)
{
    uint64_t key = phone_key(p, listener, a);
    struct phone_entry *at = find(p, key);
    p->any = true;
    if (at == NULL)
        at = place_of(p, key);
    if (at->key != key || news == PHONES_ALONE)
        *at = (struct phone_entry){.key = key};
    at->heard_s = seconds(now);
    add_line(at, phone);
}

enum phones_news phones_note(struct phones *p, uint8_t listener, const struct addr *a,
                             uint32_t phone, mono_ns now)
{
    struct phone_entry *at = find(p, phone_key(p, listener, a));
    enum phones_news news = PHONES_ADDED;
    if (at == NULL || is_another(at, phone) || (!has_line(at, phone) && is_silent(at, now)))
        news = PHONES_ALONE;
    else if (has_line(at, phone))
        news = PHONES_SAME;
    phones_copy(p, listener, a, phone, news, now);
    return news;
}

bool phones_match(const struct phones *p, uint8_t listener, const struct addr *a, uint32_t phone)
{
    const struct phone_entry *at = find(p, phone_key(p, listener, a));
    return phone == 0 || at == NULL || at->many || has_line(at, phone);
}

uint32_t phones_at(const struct phones *p, uint8_t listener, const struct addr *a)
{
    const struct phone_entry *at = find(p, phone_key(p, listener, a));
    return at != NULL && at->count > 0 ? at->line[0] : 0;
}
