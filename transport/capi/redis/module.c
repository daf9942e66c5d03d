/* Sealane for redis-server: clients of Sealane reach its data as those of TCP do. docs/REDIS.md says how to load it, and what it cannot do.
 *
 * A message of commands is a request, and their replies are its response. Redis's event loop watches the socket's descriptor. What comes is
 * run inside of a command of ours, `sealane.turn`: only at the end of a command, or of a timer's call, does Redis hand on to its log and its
 * replicas what a module's calls changed. It writes the log before it waits for events again, and then sends its replies; so where there is a
 * log, ours leave in the next round of its loop, which is asked for. */
#include <sealane.h>
#include <stdio.h>
#include <string.h>

#include "module.h"

/* Of one turn of Redis's loop; of one client that does not take its replies; and when sessions that set something up are forgotten. */
enum { REQUESTS_PER_TURN = 256, REPLIES_PER_TURN = 8 << 20, PEER_BYTES_MAX = 32 << 20, WAITING_MAX = 1024, KEPT_MAX = 100000 };
enum { TICK_MS = 100, TICKS_PER_LOOK = 100, FORGET_MS = 3600 * 1000, SPARE_BYTES = 1 << 20 };

/* A request of a session that is behind: not run yet, or run and without room for its replies. */
typedef struct Waiting {
    sealane_delivery *request;
    bool has_run;
    Bytes replies;
    struct Waiting *next;
} Waiting;

/* A session that set something up, or is behind. */
typedef struct Kept {
    uint64_t id;
    Session session;
    Waiting *first, *last;
    size_t waiting;
    struct Kept *next; /* of those that are behind */
} Kept;

static RedisModuleCtx *context;
static sealane_socket *sealane;
static int watched = -1;
static RedisModuleDict *kept;
static Kept *behind;
static Session plain = {.version = 2};
static char *listening;
static bool turning;

/* Replies that wait for the log. */
typedef struct {
    uint64_t session;
    sealane_delivery *request;
    Bytes replies;
} Answer;

static Answer *answers;
static size_t answers_count, answers_room;
static bool has_log;

/* ---- Sessions that are kept ---- */

static Kept *find(uint64_t id) {
    return RedisModule_DictSize(kept) ? RedisModule_DictGetC(kept, &id, sizeof id, NULL) : NULL;
}

static Kept *keep(uint64_t id) {
    Kept *made = RedisModule_Calloc(1, sizeof *made);
    made->id = id;
    made->session = plain;
    plain = (Session){.version = 2};
    RedisModule_DictSetC(kept, &id, sizeof id, made);
    return made;
}

static void forget(Kept *gone) {
    RedisModule_DictDelC(kept, &gone->id, sizeof gone->id, NULL);
    session_reset(&gone->session);
    RedisModule_Free(gone);
}

static void wait_in_line(Kept *of, sealane_delivery *request, const Bytes *replies) {
    Waiting *made = RedisModule_Calloc(1, sizeof *made);
    made->request = request;
    if (replies) {
        made->has_run = true;
        bytes_add(&made->replies, replies->bytes, replies->length);
    }
    if (of->last) {
        of->last->next = made;
    } else {
        of->first = made;
        of->next = behind;
        behind = of;
    }
    of->last = made;
    of->waiting++;
    counts.waited++;
}

static void leave_line(Kept *of) {
    Waiting *gone = of->first;
    of->first = gone->next;
    if (!of->first) of->last = NULL;
    of->waiting--;
    sealane_delivery_free(gone->request); /* unanswered, it is refused */
    bytes_free(&gone->replies);
    RedisModule_Free(gone);
}

/* ---- Turns ---- */

static Bytes out;

/* Runs a request. What came of it stays in `out`. */
static void run(Kept *of, const sealane_delivery *request, const char *refusal) {
    out.length = 0;
    counts.requests++;
    counts.bytes_in += request->length;
    if (refusal)
        commands_refuse(refusal, request->payload, request->length, &out);
    else
        commands_run(of ? &of->session : &plain, request->payload, request->length, &out);
    if (of) of->session.seen_ms = RedisModule_Milliseconds();
}

/* Answers; false when there is no room. A caller that is gone wants no answer. */
static bool answer(sealane_delivery *request, const Bytes *replies) {
    int32_t status = sealane_try_reply(request, (const uint8_t *)replies->bytes, replies->length, NULL);
    if (status == SEALANE_OK) counts.bytes_out += replies->length;
    return status != SEALANE_WOULD_BLOCK;
}

static void answer_or_wait(uint64_t id, sealane_delivery *request, const Bytes *replies) {
    if (answer(request, replies)) return sealane_delivery_free(request);
    Kept *of = find(id);
    wait_in_line(of ? of : keep(id), request, replies);
}

static void answer_all(void *data) {
    (void)data;
    for (size_t n = 0; sealane && n < answers_count; n++) {
        Kept *of = find(answers[n].session);
        if (of && of->first)
            wait_in_line(of, answers[n].request, &answers[n].replies);
        else
            answer_or_wait(answers[n].session, answers[n].request, &answers[n].replies);
        bytes_free(&answers[n].replies);
    }
    answers_count = 0;
}

/* What is in `out` leaves when the log was written. */
static void answer_later(uint64_t id, sealane_delivery *request) {
    if (answers_count == 0) RedisModule_EventLoopAddOneShot(answer_all, NULL);
    if (answers_count == answers_room) {
        answers_room = answers_room ? answers_room * 2 : REQUESTS_PER_TURN;
        answers = RedisModule_Realloc(answers, answers_room * sizeof *answers);
    }
    answers[answers_count++] = (Answer){id, request, out};
    out = (Bytes){NULL, 0, 0};
}

static size_t serve(sealane_delivery *came, const char *refusal) {
    Kept *of = find(came->id.session);
    if (of && of->first) {
        /* Its earlier replies have not left. */
        if (of->waiting < WAITING_MAX && !refusal)
            wait_in_line(of, came, NULL);
        else
            sealane_delivery_free(came);
        return 0;
    }
    uint64_t id = came->id.session;
    run(of, came, refusal);
    size_t bytes = out.length;
    if (!of && !session_is_plain(&plain)) {
        if (RedisModule_DictSize(kept) < KEPT_MAX) {
            of = keep(id);
            of->session.seen_ms = RedisModule_Milliseconds();
        } else {
            session_reset(&plain);
            plain.client = 0;
            out.length = 0;
            bytes_text(&out, "-ERR max number of clients reached\r\n");
        }
    }
    if (of && session_is_plain(&of->session)) forget(of);
    if (came->kind != SEALANE_REQUEST) {
        sealane_delivery_free(came);
    } else if (has_log && !refusal) {
        answer_later(id, came);
    } else {
        answer_or_wait(id, came, &out);
    }
    return bytes;
}

/* Requests that waited for room, as far as there is some. Whether there is more to do in the next round. */
static bool catch_up(size_t *bytes) {
    bool more = false;
    for (Kept **at = &behind; *at;) {
        Kept *of = *at;
        while (of->first) {
            Waiting *next = of->first;
            if (!next->has_run) {
                if (*bytes >= REPLIES_PER_TURN) {
                    more = true;
                    break;
                }
                run(of, next->request, NULL);
                *bytes += out.length;
                next->has_run = true;
                bytes_add(&next->replies, out.bytes, out.length);
                if (has_log) {
                    more = true;
                    break;
                }
            }
            if (!answer(next->request, &next->replies)) break;
            leave_line(of);
        }
        if (of->first) {
            at = &of->next;
        } else {
            *at = of->next;
            if (session_is_plain(&of->session)) forget(of);
        }
    }
    return more;
}

static void readable(int fd, void *data, int mask);

static void come_back(void *data) {
    if (watched >= 0) readable(watched, data, 0);
}

/* Takes what is there. With `refusal` Redis can run nothing just now, and that is the answer to everything. */
static void take(const char *refusal) {
    size_t bytes = 0;
    counts.turns++;
    /* Replies to one client leave together. Without room for the batch each leaves by itself. */
    sealane_batch *batch;
    sealane_batch_begin(sealane, &batch, NULL);
    for (int n = 0; n < REQUESTS_PER_TURN && bytes < REPLIES_PER_TURN; n++) {
        sealane_delivery *came;
        sealane_error error;
        int32_t status = sealane_try_recv(sealane, &came, &error);
        if (status == SEALANE_NOTHING) {
            if (behind && !refusal && catch_up(&bytes)) RedisModule_EventLoopAddOneShot(come_back, NULL);
            break;
        }
        if (status != SEALANE_OK) {
            RedisModule_Log(context, "warning", "sealane: the socket is not served any more: %s", error.text);
            RedisModule_EventLoopDel(watched, REDISMODULE_EVENTLOOP_READABLE);
            watched = -1;
            break;
        }
        if (came->kind == SEALANE_REQUEST || came->kind == SEALANE_ONE_WAY)
            bytes += serve(came, refusal);
        else
            sealane_delivery_free(came);
    }
    sealane_batch_end(batch);
    if (out.room > SPARE_BYTES) bytes_free(&out);
}

static int turn(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    if (!turning) return RedisModule_ReplyWithError(ctx, "ERR it is the module's own");
    take(NULL);
    return RedisModule_ReplyWithNull(ctx);
}

static void readable(int fd, void *data, int mask) {
    (void)fd, (void)data, (void)mask;
    int flags = RedisModule_GetContextFlags(context);
    const char *refusal = NULL;
    if (flags & (REDISMODULE_CTX_FLAGS_LOADING | REDISMODULE_CTX_FLAGS_ASYNC_LOADING))
        refusal = "LOADING Redis is loading the dataset in memory";
    else if (flags & REDISMODULE_CTX_FLAGS_LUA)
        refusal = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    else if (turning)
        refusal = "BUSY Redis is busy running a command that lets others wait.";
    if (refusal) {
        /* A turn may be under way further up: what it has in `out` is its own. */
        Bytes theirs = out;
        out = (Bytes){NULL, 0, 0};
        take(refusal);
        bytes_free(&out);
        out = theirs;
        return;
    }
    has_log = flags & REDISMODULE_CTX_FLAGS_AOF;
    commands_forget_user();
    turning = true;
    RedisModuleCallReply *reply = RedisModule_Call(context, "sealane.turn", "!");
    turning = false;
    if (reply) RedisModule_FreeCallReply(reply);
}

/* ---- Beginning and end ---- */

static void tick(RedisModuleCtx *ctx, void *data) {
    static unsigned ticks;
    (void)data;
    if (!sealane) return;
    commands_look_at_users();
    if (++ticks % TICKS_PER_LOOK == 0) {
        long long now = RedisModule_Milliseconds();
        RedisModuleDictIter *each = RedisModule_DictIteratorStartC(kept, "^", NULL, 0);
        Kept *of, *gone = NULL;
        while (RedisModule_DictNextC(each, NULL, (void **)&of)) {
            if (of->first || now - of->session.seen_ms < FORGET_MS) continue;
            of->next = gone; /* it is not behind */
            gone = of;
        }
        RedisModule_DictIteratorStop(each);
        while (gone) {
            of = gone;
            gone = gone->next;
            forget(of);
        }
    }
    RedisModule_CreateTimer(ctx, TICK_MS, tick, NULL);
}

/* Redis ends: its clients are told at once instead of finding out. */
static void shut_down(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t sub, void *data) {
    (void)ctx, (void)event, (void)sub, (void)data;
    if (!sealane || (RedisModule_GetContextFlags(context) & REDISMODULE_CTX_FLAGS_IS_CHILD)) return;
    if (watched >= 0) RedisModule_EventLoopDel(watched, REDISMODULE_EVENTLOOP_READABLE);
    watched = -1;
    for (; behind; behind = behind->next)
        while (behind->first) leave_line(behind);
    for (size_t n = 0; n < answers_count; n++) sealane_delivery_free(answers[n].request);
    answers_count = 0;
    sealane_socket_free(sealane);
    sealane = NULL;
}

static unsigned long long sessions(void) {
    char *json;
    unsigned long long count = 0;
    if (!sealane || sealane_info_json(sealane, &json, NULL) != SEALANE_OK) return 0;
    for (const char *at = json; (at = strstr(at, "\"mutual\":")); at++) count++;
    sealane_string_free(json);
    return count;
}

static void info(RedisModuleInfoCtx *ctx, int for_crash_report) {
    RedisModule_InfoAddSection(ctx, "");
    RedisModule_InfoAddFieldCString(ctx, "address", listening);
    RedisModule_InfoAddFieldCString(ctx, "version", sealane_version());
    if (!for_crash_report) RedisModule_InfoAddFieldULongLong(ctx, "sessions", sessions());
    RedisModule_InfoAddFieldULongLong(ctx, "sessions_kept", RedisModule_DictSize(kept));
    RedisModule_InfoAddFieldULongLong(ctx, "turns", counts.turns);
    RedisModule_InfoAddFieldULongLong(ctx, "requests", counts.requests);
    RedisModule_InfoAddFieldULongLong(ctx, "requests_waited", counts.waited);
    RedisModule_InfoAddFieldULongLong(ctx, "commands", counts.commands);
    RedisModule_InfoAddFieldULongLong(ctx, "commands_refused", counts.refused);
    RedisModule_InfoAddFieldULongLong(ctx, "bytes_received", counts.bytes_in);
    RedisModule_InfoAddFieldULongLong(ctx, "bytes_sent", counts.bytes_out);
}

/* Binds the socket; false with what is wrong in `error`. */
static bool begin(const char *address, const char *certificate, const char *key, const char *authority, sealane_error *error) {
    sealane_config *config = sealane_config_new();
    bool done = (authority ? sealane_config_trust_file(config, authority, error) : sealane_config_trust_nobody(config, error)) == SEALANE_OK &&
                sealane_config_identity_files(config, certificate, key, error) == SEALANE_OK &&
                sealane_config_serve(config, authority ? SEALANE_CLIENTS_AUTHENTICATED : SEALANE_CLIENTS_ANONYMOUS, error) == SEALANE_OK &&
                sealane_config_wait(config, SEALANE_WAIT_BLOCK, error) == SEALANE_OK &&
                /* One client that takes nothing must not use up what is for all. */
                sealane_config_send_bytes_max(config, UINT64_MAX, error) == SEALANE_OK &&
                sealane_config_peer_send_bytes_max(config, PEER_BYTES_MAX, error) == SEALANE_OK &&
                sealane_socket_new(config, address, &sealane, error) == SEALANE_OK &&
                sealane_socket_fd(sealane, &watched, error) == SEALANE_OK && sealane_socket_address(sealane, &listening, error) == SEALANE_OK;
    sealane_config_free(config);
    return done;
}

__attribute__((visibility("default"))) int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (RedisModule_Init(ctx, "sealane", 1, REDISMODULE_APIVER_1) == REDISMODULE_ERR) return REDISMODULE_ERR;
    if (argc < 3 || argc > 4) {
        RedisModule_Log(ctx, "warning", "sealane: loadmodule sealane.so ADDRESS CERTIFICATE KEY [AUTHORITY]; got %d arguments", argc);
        return REDISMODULE_ERR;
    }
    if (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_CLUSTER) {
        RedisModule_Log(ctx, "warning", "sealane: a cluster is not served: Redis tells a module's call neither where a key is nor to ask there");
        return REDISMODULE_ERR;
    }
    if (!RedisModule_EventLoopAdd || !RedisModule_GetModuleUserFromUserName) {
        RedisModule_Log(ctx, "warning", "sealane: this server is too old: it takes Redis 7.0");
        return REDISMODULE_ERR;
    }
    if (RedisModule_CreateCommand(ctx, "sealane.turn", turn, "admin no-auth deny-script", 0, 0, 0) == REDISMODULE_ERR) return REDISMODULE_ERR;
    const char *text[4] = {NULL, NULL, NULL, NULL};
    for (int n = 0; n < argc; n++) text[n] = RedisModule_StringPtrLen(argv[n], NULL);
    sealane_error error;
    if (!begin(text[0], text[1], text[2], text[3], &error)) {
        RedisModule_Log(ctx, "warning", "sealane: %s: %s", text[0], error.text);
        sealane_socket_free(sealane);
        return REDISMODULE_ERR;
    }
    context = RedisModule_GetDetachedThreadSafeContext(ctx);
    kept = RedisModule_CreateDict(NULL);
    commands_init(ctx);
    if (RedisModule_EventLoopAdd(watched, REDISMODULE_EVENTLOOP_READABLE, readable, NULL) == REDISMODULE_ERR) {
        RedisModule_Log(ctx, "warning", "sealane: Redis cannot watch the socket: maxclients is too low for one more descriptor");
        sealane_socket_free(sealane);
        return REDISMODULE_ERR;
    }
    RedisModule_CreateTimer(ctx, TICK_MS, tick, NULL);
    RedisModule_SubscribeToServerEvent(ctx, RedisModuleEvent_Shutdown, shut_down);
    RedisModule_RegisterInfoFunc(ctx, info);
    RedisModule_Log(ctx, "notice", "sealane: serves %s at %s", text[3] ? "clients with certificates" : "anybody", listening);
    return REDISMODULE_OK;
}

/* The library has threads, and values of threads that end with them: its code cannot go while the process stays. */
__attribute__((visibility("default"))) int RedisModule_OnUnload(RedisModuleCtx *ctx) {
    RedisModule_Log(ctx, "warning", "sealane: it cannot be unloaded; restart the server without it");
    return REDISMODULE_ERR;
}
