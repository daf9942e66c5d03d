/* The C ABI as a C program sees it: every function, bad arguments, two threads, the descriptor with poll. Run under valgrind, which finds
 * what was not freed and what was read after it was freed. ./test CERTS */
#include <poll.h>
#include <pthread.h>
#include <sealane.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static const char *dir;

static void fail(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}
#define ASSERT(yes) ((yes) ? (void)0 : fail(__FILE__, __LINE__, #yes))

/* The call gives this status, and the error says the same; on failure with a text, otherwise without one. */
#define GIVES(status_, call)                                                                           \
    do {                                                                                               \
        sealane_error error;                                                                           \
        memset(&error, 0x55, sizeof error);                                                            \
        int32_t got = (call);                                                                          \
        if (got != (status_)) fprintf(stderr, "%d (%s): %s\n", got, sealane_strerror(got), error.text); \
        ASSERT(got == (status_));                                                                      \
        ASSERT(error.status == got && (error.text[0] != 0) == (got < 0));                              \
    } while (0)
#define WORKS(call) GIVES(SEALANE_OK, call)

static char *path(const char *name) {
    static char paths[4][512];
    static int next;
    char *to = paths[next++ % 4];
    snprintf(to, sizeof paths[0], "%s/%s", dir, name);
    return to;
}

static size_t read_file(const char *name, uint8_t *to, size_t most) {
    FILE *file = fopen(path(name), "rb");
    ASSERT(file != NULL);
    size_t length = fread(to, 1, most, file);
    fclose(file);
    ASSERT(length > 0 && length < most);
    return length;
}

static sealane_socket *server_socket(void) {
    sealane_config *config = sealane_config_new();
    WORKS(sealane_config_trust_file(config, path("ca.pem"), &error));
    WORKS(sealane_config_identity_files(config, path("server.pem"), path("server.key"), &error));
    WORKS(sealane_config_serve(config, SEALANE_CLIENTS_AUTHENTICATED, &error));
    WORKS(sealane_config_wait(config, SEALANE_WAIT_BLOCK, &error));
    sealane_socket *socket;
    WORKS(sealane_socket_new(config, "127.0.0.1:0", &socket, &error));
    sealane_config_free(config);
    return socket;
}

static sealane_socket *client_socket(void) {
    static uint8_t ca[8192], chain[8192], key[8192];
    sealane_config *config = sealane_config_new();
    WORKS(sealane_config_trust_pem(config, ca, read_file("ca.pem", ca, sizeof ca), &error));
    WORKS(sealane_config_identity_pem(config, chain, read_file("client.pem", chain, sizeof chain), key,
                                      read_file("client.key", key, sizeof key), &error));
    WORKS(sealane_config_message_bytes_max(config, 1 << 20, &error));
    WORKS(sealane_config_send_bytes_max(config, 1 << 24, &error));
    WORKS(sealane_config_peer_send_bytes_max(config, 1 << 23, &error));
    WORKS(sealane_config_mtu(config, 9000, &error));
    WORKS(sealane_config_timeouts(config, 20000, 0, &error));
    sealane_socket *socket;
    WORKS(sealane_socket_new(config, "127.0.0.1:0", &socket, &error));
    sealane_config_free(config);
    return socket;
}

static sealane_peer *peer_of(sealane_socket *client, sealane_socket *server) {
    char *address;
    WORKS(sealane_socket_address(server, &address, &error));
    sealane_peer *peer;
    WORKS(sealane_peer_new(client, address, "localhost", &peer, &error));
    sealane_string_free(address);
    return peer;
}

/* Null and nonsense give SEALANE_INVALID and a text, and what would be made stays null. */
static void bad_arguments(sealane_socket *client, sealane_peer *peer) {
    sealane_config *config = sealane_config_new();
    sealane_socket *socket = client;
    GIVES(SEALANE_INVALID, sealane_config_trust_file(NULL, "x", &error));
    GIVES(SEALANE_INVALID, sealane_config_trust_file(config, NULL, &error));
    GIVES(SEALANE_CREDENTIALS, sealane_config_trust_file(config, "/nowhere.pem", &error));
    GIVES(SEALANE_CREDENTIALS, sealane_config_trust_pem(config, BYTES("no certificate"), &error));
    GIVES(SEALANE_INVALID, sealane_config_trust_pem(config, NULL, 5, &error));
    GIVES(SEALANE_CREDENTIALS, sealane_config_identity_pem(config, NULL, 0, NULL, 0, &error));
    GIVES(SEALANE_CREDENTIALS, sealane_config_identity_files(config, "/nowhere", "/nowhere", &error));
    GIVES(SEALANE_INVALID, sealane_config_trust_file(config, "\xff\xfe", &error));
    GIVES(SEALANE_INVALID, sealane_config_serve(config, 77, &error));
    GIVES(SEALANE_INVALID, sealane_config_wait(config, -1, &error));
    GIVES(SEALANE_CONFIG, sealane_socket_new(config, "127.0.0.1:0", &socket, &error));
    ASSERT(socket == NULL);
    WORKS(sealane_config_trust_nobody(config, &error));
    GIVES(SEALANE_INVALID, sealane_socket_new(config, "127.0.0.1:0", NULL, &error));
    GIVES(SEALANE_INVALID, sealane_socket_new(NULL, "127.0.0.1:0", &socket, &error));
    GIVES(SEALANE_INVALID, sealane_socket_new(config, NULL, &socket, &error));
    GIVES(SEALANE_BIND, sealane_socket_new(config, "no address", &socket, &error));
    WORKS(sealane_config_installed_only(config, true, &error));
    GIVES(SEALANE_CONFIG, sealane_socket_new(config, "127.0.0.1:0", &socket, &error));
    sealane_config_free(config);
    config = sealane_config_new();
    WORKS(sealane_config_installed_only(config, true, &error));
    WORKS(sealane_config_mtu(config, 3, &error));
    GIVES(SEALANE_CONFIG, sealane_socket_new(config, "127.0.0.1:0", &socket, &error));
    sealane_config_free(config);

    sealane_delivery *none = (sealane_delivery *)peer;
    GIVES(SEALANE_INVALID, sealane_call(NULL, peer, NULL, 0, 0, &none, &error));
    ASSERT(none == NULL);
    GIVES(SEALANE_INVALID, sealane_call(client, NULL, NULL, 0, 0, &none, &error));
    GIVES(SEALANE_INVALID, sealane_call(client, peer, NULL, 1, 0, &none, &error));
    GIVES(SEALANE_INVALID, sealane_call(client, peer, NULL, 0, 0, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_send(client, NULL, NULL, 0, 0, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_try_send(NULL, peer, NULL, 0, 0, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_send_one_way(client, peer, NULL, 9, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_try_send_one_way(client, NULL, NULL, 0, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_tell(client, NULL, NULL, 0, &error));
    GIVES(SEALANE_INVALID, sealane_connect(client, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_recv(NULL, 0, &none, &error));
    GIVES(SEALANE_INVALID, sealane_try_recv(client, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_reply(NULL, NULL, 0, &error));
    GIVES(SEALANE_INVALID, sealane_try_reply(NULL, NULL, 0, &error));
    GIVES(SEALANE_INVALID, sealane_refuse(NULL, &error));
    GIVES(SEALANE_INVALID, sealane_delivery_free_payload(NULL, &error));
    GIVES(SEALANE_INVALID, sealane_delivery_identity(NULL, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_delivery_address(NULL, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_delivery_peer(NULL, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_socket_address(NULL, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_socket_fd(client, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_socket_close(NULL, &error));
    GIVES(SEALANE_INVALID, sealane_info_json(client, NULL, &error));
    sealane_call_id nobody = {12345, 678}, nonsense = {UINT64_MAX, UINT64_MAX};
    GIVES(SEALANE_UNKNOWN_CALL, sealane_abort(client, nobody, &error));
    GIVES(SEALANE_UNKNOWN_CALL, sealane_abort(client, nonsense, &error));
    GIVES(SEALANE_ADDRESS, sealane_peer_new(client, "no address", "localhost", (sealane_peer **)&none, &error));
    GIVES(SEALANE_INVALID, sealane_peer_new(client, "127.0.0.1:1", NULL, (sealane_peer **)&none, &error));
    GIVES(SEALANE_INVALID, sealane_config_send_bytes_max(NULL, 1, &error));
    GIVES(SEALANE_INVALID, sealane_config_peer_send_bytes_max(NULL, 1, &error));
    uint8_t secret[32] = {1};
    GIVES(SEALANE_INVALID, sealane_install_session(client, "127.0.0.1:1", 9, secret, 32, "x", (sealane_peer **)&none, &error));
    GIVES(SEALANE_INVALID, sealane_install_session(client, "127.0.0.1:1", 1, secret, 31, "x", (sealane_peer **)&none, &error));
    GIVES(SEALANE_INVALID, sealane_install_session(client, "here", 1, secret, 32, "x", (sealane_peer **)&none, &error));
    GIVES(SEALANE_INVALID, sealane_install_session(client, "127.0.0.1:1", 1, secret, 32, "x", NULL, &error));
    ASSERT(sealane_call(client, NULL, NULL, 0, 0, NULL, NULL) == SEALANE_INVALID); /* nobody asks for the text */
    /* All that frees takes null. */
    sealane_config_free(NULL);
    sealane_socket_free(NULL);
    sealane_peer_free(NULL);
    sealane_delivery_free(NULL);
    sealane_string_free(NULL);
}

enum { CALLS = 200 };

/* Serves until it is told to stop, and answers the last request from a delivery whose payload was freed before. */
static void *serve(void *server) {
    for (;;) {
        sealane_delivery *came = NULL;
        int32_t status = sealane_recv(server, -1, &came, NULL);
        if (status == SEALANE_CLOSED) return NULL;
        ASSERT(status == SEALANE_OK && came != NULL);
        if (came->kind != SEALANE_REQUEST) {
            ASSERT(came->kind == SEALANE_ONE_WAY);
            GIVES(SEALANE_INVALID, sealane_reply(came, NULL, 0, &error));
        } else if (came->length == 6 && memcmp(came->payload, "refuse", 6) == 0) {
            WORKS(sealane_refuse(came, &error));
        } else if (came->length == 5 && memcmp(came->payload, "later", 5) == 0) {
            WORKS(sealane_delivery_free_payload(came, &error));
            ASSERT(came->payload == NULL && came->length == 0);
            WORKS(sealane_reply(came, BYTES("late"), &error));
            GIVES(SEALANE_UNKNOWN_REQUEST, sealane_reply(came, BYTES("twice"), &error));
        } else if (came->length == 6 && memcmp(came->payload, "forget", 6) != 0) {
            WORKS(sealane_reply(came, came->payload + 2, 3, &error)); /* a part of what came */
        } else if (came->length != 6) {
            WORKS(sealane_reply(came, came->payload, came->length, &error));
        } /* "forget": freed without an answer */
        sealane_delivery_free(came);
    }
}

struct both {
    sealane_socket *socket;
    sealane_peer *peer;
    uint8_t mark;
};

/* Several threads call over one socket and one peer. */
static void *call_often(void *argument) {
    struct both *both = argument;
    uint8_t *sent = malloc(60000);
    for (int n = 0; n < CALLS; n++) {
        size_t length = 8 + (size_t)n * 2011 % 50000;
        memset(sent, both->mark + n, length);
        sealane_delivery *reply;
        WORKS(sealane_call(both->socket, both->peer, sent, length, 60000, &reply, &error));
        ASSERT(reply->kind == SEALANE_RESPONSE && reply->length == length && memcmp(reply->payload, sent, length) == 0);
        sealane_delivery_free(reply);
    }
    free(sent);
    return NULL;
}

/* The next delivery, by a loop that only looks when the descriptor says so. */
static sealane_delivery *polled(sealane_socket *socket) {
    int fd, again;
    WORKS(sealane_socket_fd(socket, &fd, &error));
    WORKS(sealane_socket_fd(socket, &again, &error));
    ASSERT(fd >= 0 && fd == again);
    for (;;) {
        struct pollfd watched = {.fd = fd, .events = POLLIN};
        ASSERT(poll(&watched, 1, 60000) == 1);
        sealane_delivery *came = (sealane_delivery *)&watched;
        sealane_error error;
        int32_t status = sealane_try_recv(socket, &came, &error);
        if (status == SEALANE_OK) return came;
        ASSERT(status == SEALANE_NOTHING && came == NULL && error.text[0] == 0);
    }
}

static void calls(sealane_socket *client, sealane_peer *peer) {
    sealane_delivery *reply;
    WORKS(sealane_connect(client, peer, &error));
    WORKS(sealane_call(client, peer, NULL, 0, 0, &reply, &error));
    ASSERT(reply->length == 0 && reply->payload != NULL && reply->protection == SEALANE_PROTECTION_FULL);
    sealane_delivery_free(reply);
    WORKS(sealane_call(client, peer, BYTES("abcdef"), 0, &reply, &error));
    ASSERT(reply->length == 3 && memcmp(reply->payload, "cde", 3) == 0);
    GIVES(SEALANE_INVALID, sealane_refuse(reply, &error));
    sealane_delivery_free(reply);
    WORKS(sealane_call(client, peer, BYTES("later"), 0, &reply, &error));
    ASSERT(reply->length == 4 && memcmp(reply->payload, "late", 4) == 0);
    sealane_delivery_free(reply);
    GIVES(SEALANE_REFUSED, sealane_call(client, peer, BYTES("refuse"), 60000, &reply, &error));
    ASSERT(reply == NULL);
    GIVES(SEALANE_REFUSED, sealane_call(client, peer, BYTES("forget"), 60000, &reply, &error));
    static uint8_t long_one[(1 << 20) + 1];
    GIVES(SEALANE_TOO_LONG, sealane_call(client, peer, long_one, sizeof long_one, 0, &reply, &error));
    WORKS(sealane_call(client, peer, long_one, sizeof long_one - 1, 0, &reply, &error));
    ASSERT(reply->length == sizeof long_one - 1);
    sealane_delivery_free(reply);
    WORKS(sealane_tell(client, peer, BYTES("no answer wanted"), &error));
    sealane_call_id id = {0, 0};
    WORKS(sealane_send_one_way(client, peer, BYTES("nor here"), &id, &error));
    ASSERT(id.session != 0);
}

static void cookies(sealane_socket *client, sealane_peer *peer) {
    sealane_call_id id;
    WORKS(sealane_send(client, peer, BYTES("with a cookie"), 42, &id, &error));
    sealane_delivery *came = polled(client);
    ASSERT(came->kind == SEALANE_RESPONSE && came->cookie == 42 && came->length == 13);
    ASSERT(came->id.session == id.session && came->id.rpc == id.rpc && came->status == SEALANE_OK && came->text == NULL);
    char *identity, *address;
    WORKS(sealane_delivery_identity(came, &identity, &error));
    ASSERT(strstr(identity, "localhost") != NULL);
    WORKS(sealane_delivery_address(came, &address, &error));
    ASSERT(strncmp(address, "127.0.0.1:", 10) == 0);
    sealane_peer *sender;
    WORKS(sealane_delivery_peer(came, &sender, &error));
    sealane_delivery_free(came);
    sealane_string_free(identity);
    sealane_string_free(address);
    WORKS(sealane_try_send(client, sender, BYTES("refuse"), 43, NULL, &error));
    sealane_peer_free(sender);
    came = polled(client);
    ASSERT(came->kind == SEALANE_FAILED && came->cookie == 43 && came->status == SEALANE_REFUSED && came->may_have_run);
    ASSERT(came->text != NULL && strstr(came->text, "refused") != NULL && came->payload == NULL);
    GIVES(SEALANE_INVALID, sealane_delivery_peer(came, &sender, &error));
    sealane_delivery_free(came);
    WORKS(sealane_send(client, peer, BYTES("again"), 44, &id, &error));
    WORKS(sealane_recv(client, 60000, &came, &error));
    ASSERT(came->cookie == 44);
    sealane_delivery_free(came);
    GIVES(SEALANE_UNKNOWN_CALL, sealane_abort(client, id, &error));
    GIVES(SEALANE_NOTHING, sealane_recv(client, 0, &came, &error));
    ASSERT(came == NULL);
}

static void information(sealane_socket *client) {
    char *json;
    WORKS(sealane_info_json(client, &json, &error));
    ASSERT(json[0] == '{' && strstr(json, "\"sessions\":[{") && strstr(json, "\"datagrams_received\":"));
    sealane_string_free(json);
    ASSERT(sealane_abi_version() == SEALANE_ABI && strlen(sealane_version()) >= 5);
    for (int32_t status = SEALANE_OTHER - 2; status < 4; status++) ASSERT(strlen(sealane_strerror(status)) > 3);
}

/* A server that never blocks: what there is no room for is tried again when the descriptor has told of something. */
static void room(void) {
    sealane_config *config = sealane_config_new();
    WORKS(sealane_config_trust_file(config, path("ca.pem"), &error));
    WORKS(sealane_config_identity_files(config, path("server.pem"), path("server.key"), &error));
    WORKS(sealane_config_serve(config, SEALANE_CLIENTS_AUTHENTICATED, &error));
    WORKS(sealane_config_send_bytes_max(config, 100000, &error));
    sealane_socket *server, *client = client_socket();
    WORKS(sealane_socket_new(config, "127.0.0.1:0", &server, &error));
    sealane_config_free(config);
    sealane_peer *peer = peer_of(client, server), *back;
    sealane_delivery *requests[2];
    static uint8_t answer[60000];
    for (uint64_t n = 0; n < 2; n++) {
        WORKS(sealane_send(client, peer, BYTES("long"), n, NULL, &error));
        requests[n] = polled(server);
        ASSERT(requests[n]->kind == SEALANE_REQUEST);
    }
    WORKS(sealane_delivery_peer(requests[0], &back, &error));
    /* Messages of which none has been acknowledged yet: sooner or later there is no room. */
    int32_t status = SEALANE_OK, sent = 0;
    while (status == SEALANE_OK && sent < 100000) {
        status = sealane_try_send_one_way(server, back, answer, sizeof answer, NULL, NULL);
        sent += status == SEALANE_OK;
    }
    ASSERT(status == SEALANE_WOULD_BLOCK && sent > 0);
    for (int n = 0; n < 2; n++) {
        while ((status = sealane_try_reply(requests[n], answer, sizeof answer, NULL)) == SEALANE_WOULD_BLOCK) {
            int fd;
            WORKS(sealane_socket_fd(server, &fd, &error));
            struct pollfd watched = {.fd = fd, .events = POLLIN};
            ASSERT(poll(&watched, 1, 60000) == 1);
            sealane_delivery *came;
            /* The client takes no messages, and those are what fails. */
            while ((status = sealane_try_recv(server, &came, NULL)) == SEALANE_OK) sealane_delivery_free(came);
            ASSERT(status == SEALANE_NOTHING);
        }
        ASSERT(status == SEALANE_OK);
        GIVES(SEALANE_UNKNOWN_REQUEST, sealane_try_reply(requests[n], answer, sizeof answer, &error));
        sealane_delivery_free(requests[n]);
        sealane_delivery *came = polled(client);
        ASSERT(came->kind == SEALANE_RESPONSE && came->length == sizeof answer);
        sealane_delivery_free(came);
    }
    sealane_peer_free(back);
    sealane_peer_free(peer);
    sealane_socket_free(client);
    sealane_socket_free(server);
}

/* Of a message in small packets most are slices of records that span them, where that was asked for. */
static void spanning(sealane_socket *server) {
    static uint8_t sent[100000];
    for (int asked = 0; asked < 2; asked++) {
        sealane_config *config = sealane_config_new();
        WORKS(sealane_config_trust_file(config, path("ca.pem"), &error));
        WORKS(sealane_config_identity_files(config, path("client.pem"), path("client.key"), &error));
        WORKS(sealane_config_mtu(config, 1500, &error));
        WORKS(sealane_config_spanning_records(config, asked, &error));
        sealane_socket *client;
        WORKS(sealane_socket_new(config, "127.0.0.1:0", &client, &error));
        sealane_config_free(config);
        sealane_peer *peer = peer_of(client, server);
        sealane_delivery *reply;
        WORKS(sealane_call(client, peer, sent, sizeof sent, 60000, &reply, &error));
        ASSERT(reply->length == sizeof sent && memcmp(reply->payload, sent, sizeof sent) == 0);
        sealane_delivery_free(reply);
        char *json;
        WORKS(sealane_info_json(client, &json, &error));
        const char *name = "\"slices_sent\":", *found = strstr(json, name);
        ASSERT((found != NULL && atoi(found + strlen(name)) >= 60) == (asked == 1));
        sealane_string_free(json);
        sealane_peer_free(peer);
        sealane_socket_free(client);
    }
    GIVES(SEALANE_INVALID, sealane_config_spanning_records(NULL, true, &error));
}

/* What is sent in a batch arrives when it has ended, also the outer one of two. */
static void batches(sealane_socket *client, sealane_peer *peer) {
    sealane_batch *outer, *inner;
    WORKS(sealane_batch_begin(client, &outer, &error));
    WORKS(sealane_batch_begin(client, &inner, &error));
    for (uint64_t n = 1; n <= 8; n++) WORKS(sealane_send(client, peer, BYTES("abcdef"), n, NULL, &error));
    sealane_batch_end(inner);
    sealane_batch_end(outer);
    sealane_batch_end(NULL);
    for (uint64_t n = 1; n <= 8; n++) {
        sealane_delivery *came;
        WORKS(sealane_recv(client, 60000, &came, &error));
        ASSERT(came->kind == SEALANE_RESPONSE && came->cookie >= 1 && came->cookie <= 8);
        sealane_delivery_free(came);
    }
    GIVES(SEALANE_INVALID, sealane_batch_begin(NULL, &outer, &error));
    ASSERT(outer == NULL);
    GIVES(SEALANE_INVALID, sealane_batch_begin(client, NULL, &error));
}

enum { ASKED = 40, AT_ONCE = 16 };

/* How many have come to a socket, taken or not, as its own thread sees to that too. */
static long delivered(sealane_socket *socket) {
    char *json;
    WORKS(sealane_info_json(socket, &json, &error));
    const char *name = "\"messages_delivered\":", *found = strstr(json, name);
    ASSERT(found != NULL);
    long count = atol(found + strlen(name));
    sealane_string_free(json);
    return count;
}

/* What has come is taken at once, in its order, no more than there is room for, and freed one by one. */
static void many(void) {
    sealane_socket *server = server_socket(), *client = client_socket();
    sealane_peer *peer = peer_of(client, server);
    sealane_delivery *came[AT_ONCE + 1];
    size_t count = 77;
    GIVES(SEALANE_NOTHING, sealane_recv_many(server, 5, came, AT_ONCE, &count, &error));
    ASSERT(count == 0);
    WORKS(sealane_connect(client, peer, &error));
    for (uint64_t n = 0; n < ASKED; n++) {
        uint8_t number = (uint8_t)n;
        WORKS(sealane_send(client, peer, &number, 1, n, NULL, &error));
    }
    while (delivered(server) < ASKED) poll(NULL, 0, 1);
    size_t taken = 0, counts[4] = {0};
    for (int turn = 0; taken < ASKED; turn++) {
        ASSERT(turn < 4);
        memset(came, 0x55, sizeof came);
        if (turn == 0) {
            WORKS(sealane_recv_many(server, -1, came, AT_ONCE, &count, &error));
        } else {
            WORKS(sealane_try_recv_many(server, came, AT_ONCE, &count, &error));
        }
        counts[turn] = count;
        sealane_delivery *beyond;
        memset(&beyond, 0x55, sizeof beyond);
        ASSERT(came[AT_ONCE] == beyond);
        for (size_t at = 0; at < AT_ONCE; at++) {
            ASSERT((came[at] != NULL) == (at < count));
            if (came[at] == NULL) continue;
            ASSERT(came[at]->kind == SEALANE_REQUEST && came[at]->length == 1 && came[at]->payload[0] == taken++);
            WORKS(sealane_reply(came[at], came[at]->payload, 1, &error));
            sealane_delivery_free(came[at]);
        }
    }
    ASSERT(counts[0] == AT_ONCE && counts[1] == AT_ONCE && counts[2] == ASKED - 2 * AT_ONCE);
    GIVES(SEALANE_NOTHING, sealane_try_recv_many(server, came, 1, &count, &error));
    ASSERT(count == 0 && came[0] == NULL);
    for (taken = 0; taken < ASKED; taken += count) {
        WORKS(sealane_recv_many(client, 60000, came, AT_ONCE, &count, &error));
        for (size_t at = 0; at < count; at++) {
            ASSERT(came[at]->kind == SEALANE_RESPONSE && came[at]->payload[0] == came[at]->cookie);
            sealane_delivery_free(came[at]);
        }
    }
    sealane_delivery *left = (sealane_delivery *)peer;
    count = 77;
    GIVES(SEALANE_INVALID, sealane_recv_many(NULL, 0, &left, 1, &count, &error));
    ASSERT(left == NULL && count == 0);
    GIVES(SEALANE_INVALID, sealane_recv_many(client, 0, NULL, 1, &count, &error));
    GIVES(SEALANE_INVALID, sealane_recv_many(client, 0, &left, 0, &count, &error));
    GIVES(SEALANE_INVALID, sealane_try_recv_many(client, &left, 1, NULL, &error));
    GIVES(SEALANE_INVALID, sealane_try_recv_many(client, &left, SIZE_MAX, &count, &error));
    WORKS(sealane_socket_close(client, &error));
    GIVES(SEALANE_CLOSED, sealane_recv_many(client, -1, came, AT_ONCE, &count, &error));
    ASSERT(count == 0);
    sealane_peer_free(peer);
    sealane_socket_free(client);
    sealane_socket_free(server);
}

/* Installed secrets, a call that nobody answers, deliveries and peers that outlive their socket. */
static void installed(void) {
    sealane_config *config = sealane_config_new();
    WORKS(sealane_config_installed_only(config, true, &error));
    sealane_socket *left, *right;
    WORKS(sealane_socket_new(config, "127.0.0.1:0", &left, &error));
    WORKS(sealane_socket_new(config, "127.0.0.1:0", &right, &error));
    sealane_config_free(config);
    char *left_at, *right_at;
    WORKS(sealane_socket_address(left, &left_at, &error));
    WORKS(sealane_socket_address(right, &right_at, &error));
    uint8_t secret[32] = "thirty-two bytes, known to both";
    sealane_peer *peer;
    WORKS(sealane_install_session(right, left_at, SEALANE_ROLE_SERVER, secret, 32, "left", NULL, &error));
    WORKS(sealane_install_session(left, right_at, SEALANE_ROLE_CLIENT, secret, 32, "right", &peer, &error));
    sealane_string_free(left_at);
    sealane_string_free(right_at);
    GIVES(SEALANE_INVALID, sealane_send(right, peer, NULL, 0, 0, NULL, &error)); /* it is the other's */

    sealane_call_id id;
    WORKS(sealane_send(left, peer, BYTES("to be aborted"), 1, &id, &error));
    sealane_delivery *request;
    WORKS(sealane_recv(right, 60000, &request, &error));
    char *identity;
    WORKS(sealane_delivery_identity(request, &identity, &error));
    ASSERT(strstr(identity, "left") != NULL);
    sealane_string_free(identity);
    WORKS(sealane_abort(left, id, &error));
    GIVES(SEALANE_UNKNOWN_CALL, sealane_abort(left, id, &error));

    sealane_delivery *none, *kept;
    sealane_error error;
    ASSERT(sealane_call(left, peer, BYTES("nobody answers"), 200, &none, &error) == SEALANE_DEADLINE);
    ASSERT(none == NULL && error.status == SEALANE_DEADLINE && error.may_have_run);
    WORKS(sealane_recv(right, 60000, &kept, &error));
    sealane_peer *back;
    WORKS(sealane_delivery_peer(kept, &back, &error));

    sealane_batch *batch;
    WORKS(sealane_batch_begin(left, &batch, &error));
    WORKS(sealane_socket_close(left, &error));
    GIVES(SEALANE_CLOSED, sealane_socket_close(left, &error));
    GIVES(SEALANE_CLOSED, sealane_recv(left, -1, &none, &error));
    sealane_socket_free(left);
    sealane_batch_end(batch);
    sealane_socket_free(right); /* without closing it */
    ASSERT(kept->length == 14 && memcmp(kept->payload, "nobody answers", 14) == 0);
    GIVES(SEALANE_CLOSED, sealane_reply(kept, NULL, 0, &error));
    sealane_delivery_free(kept);
    sealane_delivery_free(request);
    sealane_peer_free(back);
    sealane_peer_free(peer);
}

int main(int argc, char **argv) {
    dir = argc > 1 ? argv[1] : "certs";
    sealane_socket *server = server_socket(), *client = client_socket();
    sealane_peer *peer = peer_of(client, server);
    bad_arguments(client, peer);
    pthread_t serving, calling[2];
    ASSERT(pthread_create(&serving, NULL, serve, server) == 0);
    calls(client, peer);
    cookies(client, peer);
    batches(client, peer);
    spanning(server);
    struct both both[2] = {{client, peer, 1}, {client, peer, 101}};
    for (int n = 0; n < 2; n++) ASSERT(pthread_create(&calling[n], NULL, call_often, &both[n]) == 0);
    for (int n = 0; n < 2; n++) pthread_join(calling[n], NULL);
    information(client);
    room();
    many();
    installed();
    sealane_peer_free(peer);
    WORKS(sealane_socket_close(client, &error));
    sealane_socket_free(client);
    WORKS(sealane_socket_close(server, &error));
    pthread_join(serving, NULL);
    sealane_socket_free(server);
    puts("the C ABI: all functions, as the header says");
    return 0;
}
