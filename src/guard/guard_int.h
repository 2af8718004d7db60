/* SPDX-License-Identifier: Apache-2.0
 *
 * guard_int: what the files of this room share. Never included from outside it. Each struct is of
 * the file that is named beside it. */
#ifndef WEIR_GUARD_INT_H
#define WEIR_GUARD_INT_H

#include "guard/guard.h"

/* ---- rate.c ----------------------------------------------------------------------------------
 */
/* One that a slower rate had emptied is empty and no more. */
void rate__settle(mono_ns *full_at, struct rate r, mono_ns now);

/* ---- sources.c -------------------------------------------------------------------------------
 */
enum source_kind { SOURCE_NONE, SOURCE_IP4, SOURCE_IP6, SOURCE_NET4, SOURCE_NET6 };
enum source_flag {
    SOURCE_PROVEN = 1,     /* it was no pretence, once: a connection, or an answer */
    SOURCE_BAN_BELOW = 2,  /* its ban follows from pretences at most: it is for datagrams only */
    SOURCE_PERSISTENT = 4, /* it stands among the persistent */
};
enum { SOURCE_WAYS = 8, SOURCE_BUSY = 33, SOURCE_TICK_SHIFT = 26 };
enum { PERSISTENT_MAX = 64, PERSISTENT_FROM = 64 };

/* What is known of an address or a prefix: one cache line. Ticks are of 2^26 ns (67 ms), hours of
 * 3600 s; both count from the guard's birth. */
struct source {
    uint64_t net; /* its bits, in host order: IPv4 32 or 24, IPv6 64 or 48, zeros behind them */
    mono_ns full_at[GUARD_WHATS];
    uint32_t connections;
    uint32_t ban_ends;    /* tick; 0 = never banned */
    uint16_t known_hours; /* known before this hour */
    uint16_t refused;     /* how often, or would have been in report-only mode; stops at the top */
    uint16_t persistence; /* refused while banned; stops at the top */
    uint8_t ban_level;    /* as of the last ban's end */
    uint8_t flags;
};
_Static_assert(sizeof(struct source) == 64, "one cache line");

/* All that a search, or a choice of who makes room, has to look at: one cache line. */
struct source_head {
    uint32_t seen[SOURCE_WAYS]; /* tick */
    uint16_t tag[SOURCE_WAYS];
    uint8_t kind[SOURCE_WAYS];
    uint8_t worth[SOURCE_WAYS]; /* enum source_worth: at most this, the source itself knows */
};
_Static_assert(sizeof(struct source_head) == 64, "one cache line");

/* Who has to make room for whom: up to his own worth, the lowest first, then the longest idle. */
enum source_worth {
    WORTH_PRETENCE, /* only datagrams came from it, or nothing for long */
    WORTH_SILENCED, /* the same, and it is banned for them */
    WORTH_REAL,     /* proven */
    WORTH_KNOWN,
    WORTH_KEPT, /* connected, or banned: makes no room */
};

struct sources {
    struct source_head *heads;
    struct source *all; /* SOURCE_WAYS for each head */
    uint32_t sets;
    uint32_t used;
    mono_ns born;
    uint32_t bans_end;             /* tick: none is in force from here on */
    uint32_t busy[2][SOURCE_BUSY]; /* addresses, prefixes: how many with 2^(i-1) to 2^i - 1 */
    struct prefix persistent[PERSISTENT_MAX];
    uint32_t persistent_count;
    uint32_t persistent_ends; /* tick: of the first of their bans */
    uint64_t persistent_version;
};
size_t sources_memory(const struct guard_limits *l);
MUST_USE int sources_init(struct sources *s, struct arena *mem, const struct guard_limits *l,
                          mono_ns now);

/* An address and its neighbourhood; either may be NULL: not remembered. */
struct sight {
    struct source *self, *net;
};
enum source_kind source__kind(const struct guard *g, const struct source *x);
struct sight source__find(const struct guard *g, const struct addr *a);
/* What is not there is made, where `worth` finds room. */
struct sight source__claim(struct guard *g, const struct addr *a, enum source_worth worth,
                           mono_ns now);
/* One more, one less connection; not below 0. */
void source__connect(struct guard *g, struct source *x);
void source__disconnect(struct guard *g, struct source *x);
void source__refused(struct source *x);
void source__know(struct guard *g, struct source *x, mono_ns now);
bool source__is_known(const struct guard *g, const struct source *x, mono_ns now);
bool source__is_banned(const struct guard *g, const struct source *x, bool proven, mono_ns now);
uint32_t source__tick(const struct guard *g, mono_ns now);
/* The prefix that the entry is about. */
struct prefix source__prefix(const struct guard *g, const struct source *x);
/* Which of both is banned and so stands in the way, or NULL. Counts its persistence. */
struct source *source__barred(struct guard *g, struct sight at, bool proven, mono_ns now);
/* Over a rate: a ban begins, if it may. */
void source__ban(struct guard *g, struct source *x, bool proven, mono_ns now);
/* Nothing remains of the sources in it but their connections, and that they are known. */
void source__forget(struct guard *g, const struct prefix *p);
/* The persistent whose ban is over leave. */
void source__review(struct guard *g, mono_ns now);

/* ---- held.c: who connects too often, and goes on ------------------------------------------------
 */
enum { HELD_MAX = 8 };
struct held {
    struct prefix prefix;
    mono_ns since, until; /* of those counted; of being held, 0: not */
    uint32_t refused;     /* since then */
};
struct helds {
    struct held at[HELD_MAX];
    uint64_t version;
};
/* A connection of its was refused for its own number or rate. */
void held__refused(struct guard *g, const struct source *x, mono_ns now);
/* Returns how many of at most `max` are held. */
unsigned held__list(const struct guard *g, struct prefix *ret_prefixes, unsigned max, mono_ns now);

/* ---- list.c ----------------------------------------------------------------------------------
 */
enum { LIST_ITEMS_MAX = 256, LIST_CELLS = 1024 };
_Static_assert((int)GUARD_EXEMPT_MAX <= (int)LIST_ITEMS_MAX, "both have this form");
struct list_item {
    struct prefix at;
    mono_ns until; /* MONO_NONE: for ever */
    uint64_t refused;
    bool deny;
};
struct list {
    uint32_t count;
    uint64_t lengths[2][3]; /* IPv4, IPv6: which there are */
    uint16_t cell[LIST_CELLS];
    struct list_item item[LIST_ITEMS_MAX];
};
struct lists {
    struct list operators, exempt;
    uint64_t persistent_version;
};
enum list_word { LIST_SILENT, LIST_ALLOWS, LIST_DENIES };
/* What lists say of it. A denial is counted. */
enum list_word list__word(struct guard *g, const struct addr *a, mono_ns now);
void list__exempt(struct guard *g);

/* ---- door.c: this worker's share, and all together ---------------------------------------------
 */
struct pace {
    mono_ns common_full_at; /* one half of the tokens: for anybody */
    mono_ns kept_full_at;   /* the other: for the known, and what they leave over */
    mono_ns known_came;     /* one of them; 0: never */
};
struct door {
    struct pace pace[TP__COUNT];
    mono_ns handshakes_full_at;
    mono_ns excess_full_at; /* of unproven datagrams: see door.c */
    uint32_t connections;
    /* From the options, for one worker. */
    uint32_t connections_max, per_source_max, per_prefix_max;
    struct rate half[TP__COUNT]; /* of what is accepted */
    struct rate handshakes;
    struct rate per_source[GUARD_WHATS], per_prefix[GUARD_WHATS];
};
void door__adopt(struct guard *g);

/* ---- delay.c, retry.c, session.c: all zero is how they begin -----------------------------------
 */
struct delay {
    mono_ns interval_ends, review_at; /* 0: none has begun */
    dur_ns least[GUARD_QUEUES];       /* waits of this interval so far; MONO_NONE: nobody waited */
    dur_ns wait, excess;              /* of the last interval; and over the target */
    uint32_t shed;                    /* of all that comes, in 2^-20 */
    uint32_t came[CLASSES];           /* in this interval */
    uint32_t usual[CLASSES];          /* the average of it, in 2^-8 */
    uint32_t drop[CLASSES];           /* of each class, in 2^-20 */
    uint64_t shed_sum;                /* since the last review */
    uint32_t reviewed;                /* intervals in it */
    uint32_t told;                    /* to neighbours, in 2^-20 */
    uint64_t told_seq;
    uint32_t unheard; /* of new INVITEs over UDP, in 2^-20 */
    mono_ns unheard_at;
};
struct line {
    mono_ns next_free;
    mono_ns window_began; /* 0: none has */
    uint32_t admitted;    /* in this window */
    uint32_t refused;     /* in this window */
    uint32_t rate;        /* admitted per second */
    uint32_t asked, done; /* of late: admitted, and ended well */
};
/* retry.c: one that might have been shed was let in. */
void line__admitted(struct guard *g, enum guard_class class, mono_ns now);
struct session;
struct sessions {
    struct session *sets;
};
size_t sessions_memory(void);
MUST_USE int sessions_init(struct sessions *s, struct arena *mem);

struct guard {
    const struct guard_opts *opts;
    struct guard_limits limits;
    uint32_t workers;
    struct hash_seed seed;
    struct prng prng;
    struct guard_counters count;
    struct sources sources;
    struct helds helds;
    struct lists lists;
    struct door door;
    struct delay delay;
    struct line line[2]; /* registrations: 1 */
    struct sessions sessions;
};

#endif
