/* SPDX-License-Identifier: Apache-2.0
 *
 * Who was heard at an address over UDP: see flow.h. A set-associative table without pointers; what
 * it forgets is only no longer known. */
#include "flow/flow.h"

enum { PHONE_WAYS = 4, PHONE_LINES = 4 };

/* NATs keep a UDP mapping for 30 s at the least since its last packet: an address that spoke within
 * this time is still the same phone's. */
static const dur_ns mapping_life = 25 * NS_S;

/* What is known of an address; struct phone_ping beside it, in an array of its own, for what comes
 * from an address that is not pinged looks at this one only. */
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
    struct phone_ping *ping; /* the same places */
    struct wheel wheel;
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
    size_t each = sizeof(struct phone_entry) + sizeof(struct phone_ping);
    return sizeof(struct phones) + each * PHONE_WAYS * (size_t)sets_for(max) + 64;
}

struct phones *phones_new(struct arena *mem, uint32_t max, struct hash_seed seed, mono_ns now)
{
    struct phones *p = ARENA_NEW(mem, struct phones);
    if (p == NULL)
        return NULL;
    *p = (struct phones){.sets = sets_for(max), .seed = seed};
    p->entry = ARENA_ARRAY(mem, struct phone_entry, PHONE_WAYS * p->sets);
    p->ping = ARENA_ARRAY(mem, struct phone_ping, PHONE_WAYS * p->sets);
    wheel_init(&p->wheel, now);
    return p->entry != NULL && p->ping != NULL ? p : NULL;
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

static struct phone_ping *ping_of(const struct phones *p, const struct phone_entry *at)
{
    return &p->ping[at - p->entry];
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

/* Nobody is known there any more. */
static void reset(struct phones *p, struct phone_entry *at, uint64_t key)
{
    phones_ping_forget(p, ping_of(p, at));
    *at = (struct phone_entry){.key = key};
}

/* A sign of life, by whatever it was: the next ping is not due before a pause from now on. One that
 * slept is looked at at once: it is only known here that it should be pinged, not how often.
 * Anybody can write a source into a datagram: from an address that never answered it makes us send
 * no more than we would have. */
static void ping_heard(struct phones *p, struct phone_ping *ping, mono_ns now)
{
    if (ping->addr.family == 0)
        return;
    ping->heard = now;
    if (!ping->proved)
        return;
    ping->unanswered = 0;
    if (!wheel_is_armed(&ping->timer))
        wheel_arm(&p->wheel, &ping->timer, now);
}

void phones_heard(struct phones *p, uint8_t listener, const struct addr *a, mono_ns now)
{
    if (!p->any)
        return; /* nobody registers here: no call pays for it */
    struct phone_entry *at = find(p, phone_key(p, listener, a));
    /* Only what follows closely shows that it is still the same one: after a silence it takes a
     * registration. */
    if (at == NULL)
        return;
    if (!is_silent(at, now))
        at->heard_s = seconds(now);
    ping_heard(p, ping_of(p, at), now);
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
        reset(p, at, key); /* silent since ever */
        add_line(at, phone);
    } else if (at->count == 0 || is_another(at, phone)) {
        reset(p, at, key); /* nobody */
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
        reset(p, at, key);
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

/* ---- pings ----------------------------------------------------------------------------------- */

static bool is_registered(const struct phone_ping *ping, mono_ns now)
{
    for (unsigned i = 0; i < PHONE_LINES_KEPT; i++)
        if (ping->until_s[i] > seconds(now))
            return true;
    return false;
}

/* That of this line, else the one whose time is over first: free ones before all. */
static unsigned line_of(const struct phone_ping *ping, uint32_t aor)
{
    unsigned at = 0;
    for (unsigned i = 0; i < PHONE_LINES_KEPT; i++) {
        if (ping->until_s[i] != 0 && ping->aor[i] == aor)
            return i;
        if (ping->until_s[i] < ping->until_s[at])
            at = i;
    }
    return at;
}

void phones_keep(struct phones *p, uint8_t listener, const struct addr *a, uint32_t aor,
                 uint32_t life_s, mono_ns now)
{
    struct phone_entry *at = find(p, phone_key(p, listener, a));
    if (at == NULL)
        return;
    struct phone_ping *ping = ping_of(p, at);
    unsigned i = line_of(ping, aor);
    if (life_s > 0) {
        ping->addr = *a;
        ping->listener = listener;
        ping->aor[i] = aor;
        ping->until_s[i] = seconds(mono_add(now, life_s * NS_S));
        ping->heard = now;
        ping->unanswered = 0;
        if (!wheel_is_armed(&ping->timer))
            wheel_arm(&p->wheel, &ping->timer, now);
    } else if (ping->until_s[i] != 0 && ping->aor[i] == aor) {
        ping->until_s[i] = 0;
        if (!is_registered(ping, now))
            phones_ping_forget(p, ping);
    }
}

void phones_unkeep(struct phones *p, uint8_t listener, const struct addr *a)
{
    struct phone_entry *at = find(p, phone_key(p, listener, a));
    if (at != NULL)
        phones_ping_forget(p, ping_of(p, at));
}

void phones_answered(struct phones *p, uint8_t listener, const struct addr *a, mono_ns now)
{
    struct phone_entry *at = find(p, phone_key(p, listener, a));
    if (at == NULL || ping_of(p, at)->addr.family == 0)
        return;
    ping_of(p, at)->proved = true;
    ping_heard(p, ping_of(p, at), now);
}

struct phone_ping *phones_ping_due(struct phones *p, mono_ns now)
{
    struct wheel_node *n;
    while ((n = wheel_expire(&p->wheel, now)) != NULL) {
        struct phone_ping *ping = (struct phone_ping *)(void *)n; /* begins with it */
        if (is_registered(ping, now))
            return ping;
        phones_ping_forget(p, ping);
    }
    return NULL;
}

void phones_ping_at(struct phones *p, struct phone_ping *ping, mono_ns at)
{
    wheel_arm(&p->wheel, &ping->timer, at);
}

void phones_ping_forget(struct phones *p, struct phone_ping *ping)
{
    wheel_disarm(&p->wheel, &ping->timer);
    *ping = (struct phone_ping){0};
}

mono_ns phones_ping_deadline(const struct phones *p)
{
    return wheel_deadline(&p->wheel);
}
