/* A server and a client in one program: the client says something, the server says it back.
 * ./echo CERTS, where CERTS is what `sealane certs --out CERTS` made. */
#include <pthread.h>
#include <sealane.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sealane_error error; /* used by the main thread; the server's has its own */

static void check(int32_t status) {
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", sealane_strerror(status), error.text);
        exit(1);
    }
}

/* A socket that trusts the authority in `dir` and shows the certificate of `who`. */
static sealane_socket *open_socket(const char *dir, const char *who, bool serves) {
    char ca[512], chain[512], key[512];
    snprintf(ca, sizeof ca, "%s/ca.pem", dir);
    snprintf(chain, sizeof chain, "%s/%s.pem", dir, who);
    snprintf(key, sizeof key, "%s/%s.key", dir, who);

    sealane_config *config = sealane_config_new();
    check(sealane_config_trust_file(config, ca, &error));
    check(sealane_config_identity_files(config, chain, key, &error));
    if (serves) check(sealane_config_serve(config, SEALANE_CLIENTS_AUTHENTICATED, &error));
    sealane_socket *socket;
    check(sealane_socket_new(config, "127.0.0.1:0", &socket, &error));
    sealane_config_free(config);
    return socket;
}

/* Answers every request with its own bytes, which are not copied, until the socket is closed. */
static void *serve(void *server) {
    sealane_delivery *came;
    while (sealane_recv(server, -1, &came, NULL) == SEALANE_OK) {
        if (came->kind == SEALANE_REQUEST) sealane_reply(came, came->payload, came->length, NULL);
        sealane_delivery_free(came);
    }
    return NULL;
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : "certs", *hello = "hello, datacenter";
    sealane_socket *server = open_socket(dir, "server", true);
    sealane_socket *client = open_socket(dir, "client", false);
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, server) != 0) return 1;

    char *address;
    check(sealane_socket_address(server, &address, &error));
    sealane_peer *peer; /* whose certificate must say "localhost" */
    check(sealane_peer_new(client, address, "localhost", &peer, &error));
    sealane_string_free(address);

    sealane_delivery *reply; /* the first call makes the session; 10 s are its deadline */
    check(sealane_call(client, peer, (const uint8_t *)hello, strlen(hello), 10000, &reply, &error));
    printf("%.*s\n", (int)reply->length, (const char *)reply->payload);
    bool same = reply->length == strlen(hello) && memcmp(reply->payload, hello, reply->length) == 0;

    sealane_delivery_free(reply);
    sealane_peer_free(peer);
    check(sealane_socket_close(client, &error));
    sealane_socket_free(client);
    check(sealane_socket_close(server, &error)); /* wakes the thread that serves */
    pthread_join(thread, NULL);
    sealane_socket_free(server);
    return same ? 0 : 1;
}
