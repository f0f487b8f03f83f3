/* The load generator: many WebSocket clients in one thread on epoll, as cheap as they can be made, so that the server is
 * what is measured. It says how much CPU it used itself.
 *
 * All servers get the same load: every client sends an input ten times a second (or as told) and receives the frames of its
 * room. An input carries a mark, a 32-bit number of the client's own; the server puts the mark of the last applied input
 * into the player's state. A client that finds its mark in a frame knows how long its input took to become visible. While
 * a mark is under way the inputs repeat it, so that it cannot be overwritten unseen.
 *
 *   load PORT PROTOCOL CLIENTS CONNECTIONS_FILE RATE WARM_UP_SECONDS SECONDS MODE
 *
 * PROTOCOL: raw | gs | sio | colyseus. CONNECTIONS_FILE: one line per client: PATH <tab> TOKEN (token only for gs).
 * MODE: play (inputs), shout (an event to the whole room), idle (connect and listen).
 * Prints a JSON line when everyone has joined and the warm-up is over, and one at the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum protocol { RAW, GS, SIO, COLYSEUS };
enum mode { PLAY, SHOUT, IDLE };
enum stage { UNUSED, CONNECTING, UPGRADING, GREETING, JOINED };

enum { CONNECTING_MAX = 32, CHUNK = 1 << 18, BUCKETS = 100000 /* of 0.1 ms */, START_SECONDS_MAX = 120 };

struct client {
    int fd;
    enum stage stage;
    uint32_t seq, mark;    /* mark: 0 when none is under way */
    double sent_at;
    uint32_t channel;
    uint8_t *rest;         /* an incomplete message */
    size_t rest_size, rest_room;
    char *path, *token;
};

static enum protocol protocol;
static enum mode mode;
static int count, joined, connecting, epoll_fd, port;
static struct client *clients;
static uint8_t chunk[CHUNK];
static uint64_t frames, messages, bytes, inputs, events, errors, seen, blocked;
static uint32_t histogram[BUCKETS + 1];
static int measuring, actions_steer = -1, actions_shout = -1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(1);
}

static void fail(struct client *client, const char *why) {
    if (errors < 5) fprintf(stderr, "load: client %d: %s\n", (int)(client - clients), why);
    errors++;
    if (client->stage != JOINED) die("a client could not join: %s", why);
    close(client->fd);
    client->fd = -1;
    client->stage = UNUSED;
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */
static void send_all(struct client *client, const void *data, size_t size) {
    ssize_t written = send(client->fd, data, size, MSG_NOSIGNAL);
    if (written == (ssize_t)size) return;
    if (written < 0 && errno == EAGAIN) { blocked++; return; }
    /* Part of a frame is out: the stream would be broken. Inputs are tiny, so this means the server does not read at all. */
    fail(client, "the server takes no more data");
}

static void send_frame(struct client *client, int opcode, const void *payload, size_t size) {
    uint8_t frame[4096];
    size_t at = 0;
    if (size > sizeof frame - 14) die("a message of %zu bytes is more than this program sends", size);
    frame[at++] = (uint8_t)(0x80 | opcode);
    if (size < 126) frame[at++] = (uint8_t)(0x80 | size);
    else {
        frame[at++] = 0xFE;
        frame[at++] = (uint8_t)(size >> 8);
        frame[at++] = (uint8_t)size;
    }
    memset(frame + at, 0, 4); /* a mask is demanded; zeros change nothing */
    memcpy(frame + at + 4, payload, size);
    send_all(client, frame, at + 4 + size);
}

static size_t put_u32(uint8_t *to, uint32_t value) { /* msgpack uint32 */
    to[0] = 0xCE;
    to[1] = (uint8_t)(value >> 24), to[2] = (uint8_t)(value >> 16), to[3] = (uint8_t)(value >> 8), to[4] = (uint8_t)value;
    return 5;
}

static size_t put_double(uint8_t *to, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    to[0] = 0xCB;
    for (int i = 0; i < 8; i++) to[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
    return 9;
}

static size_t put_text(uint8_t *to, const char *text) {
    size_t size = strlen(text);
    if (size < 32) {
        to[0] = (uint8_t)(0xA0 | size);
        memcpy(to + 1, text, size);
        return 1 + size;
    }
    to[0] = 0xDA, to[1] = (uint8_t)(size >> 8), to[2] = (uint8_t)size;
    memcpy(to + 3, text, size);
    return 3 + size;
}

static void act(struct client *client, double at) {
    uint8_t body[128];
    size_t size = 0;
    int shouting = mode == SHOUT;
    double turn = (double)(client->seq % 20) / 10 - 1;
    client->seq++;
    if (client->mark == 0 || shouting) {
        /* The high bit makes every encoding use its four-byte form. */
        client->mark = 0x80000000u | ((uint32_t)(client - clients) << 14 & 0x7FFFFFFFu) | (client->seq & 0x3FFF);
        client->sent_at = at;
    }
    if (protocol == GS) { /* [3, channel, seq, number, [arguments], flags] */
        body[size++] = 0x96, body[size++] = 3;
        size += put_u32(body + size, client->channel);
        size += put_u32(body + size, client->seq);
        body[size++] = (uint8_t)(shouting ? actions_shout : actions_steer);
        body[size++] = shouting ? 0x91 : 0x93;
    } else if (protocol == RAW) { /* [kind, arguments…] */
        body[size++] = shouting ? 0x92 : 0x94;
        body[size++] = shouting ? 1 : 0;
    } else if (protocol == COLYSEUS) { /* code, message type, then the message */
        body[size++] = 13;
        size += put_text(body + size, shouting ? "shout" : "steer");
        if (!shouting) body[size++] = 0x93;
    } else {
        if (shouting) size = (size_t)sprintf((char *)body, "42[\"shout\",%u]", client->mark);
        else size = (size_t)sprintf((char *)body, "42[\"steer\",%.1f,%.1f,%u]", turn, 1 - turn, client->mark);
        send_frame(client, 1, body, size);
        inputs += (uint64_t)measuring;
        return;
    }
    if (!shouting) {
        size += put_double(body + size, turn);
        size += put_double(body + size, 1 - turn);
    }
    size += put_u32(body + size, client->mark);
    if (protocol == GS) body[size++] = 1; /* quiet */
    send_frame(client, 2, body, size);
    inputs += (uint64_t)measuring;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */
static void look_for_mark(struct client *client, const uint8_t *payload, size_t size) {
    char needle[16];
    size_t length = 4;
    uint32_t mark = client->mark;
    if (mark == 0) return;
    if (protocol == SIO) length = (size_t)sprintf(needle, "%u", mark);
    else if (protocol == COLYSEUS && mode != SHOUT) memcpy(needle, &mark, 4); /* schema: little endian */
    else for (int i = 0; i < 4; i++) needle[i] = (char)(mark >> (24 - 8 * i));
    if (memmem(payload, size, needle, length) == NULL) return;
    if (measuring) {
        double took = (now() - client->sent_at) * 1e4;
        histogram[took < BUCKETS ? (int)took : BUCKETS]++;
        seen++;
    }
    client->mark = 0;
}

static void enter(struct client *client) {
    client->stage = JOINED;
    joined++, connecting--;
}

static uint32_t read_uint(const uint8_t *at) {
    if (at[0] < 0x80) return at[0];
    if (at[0] == 0xCC) return at[1];
    if (at[0] == 0xCD) return (uint32_t)at[1] << 8 | at[2];
    if (at[0] == 0xCE) return (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | at[4];
    die("an unsigned integer was expected, not 0x%02x", at[0]);
    return 0;
}

/* The number of an action is its place in the list `actions` of the answer to the join; names here are short strings. */
static int find_action(const uint8_t *payload, size_t size, const char *name) {
    const uint8_t *end = payload + size, *at = memmem(payload, size, "\xA7" "actions", 8);
    if (at == NULL || at + 9 >= end) return -1;
    int length = at[8] & 0x0F;
    at += 9;
    for (int i = 0; i < length && at < end; i++) {
        size_t chars = at[0] & 0x1F;
        if (chars == strlen(name) && memcmp(at + 1, name, chars) == 0) return i;
        at += 1 + chars;
    }
    return -1;
}

static const uint8_t *skip_uint(const uint8_t *at) {
    return at + (at[0] < 0x80 ? 1 : at[0] == 0xCC ? 2 : at[0] == 0xCD ? 3 : at[0] == 0xCE ? 5 : 9);
}

/* [5, channel, epoch, version, [event, …]] */
static uint64_t count_events(const uint8_t *payload) {
    const uint8_t *at = skip_uint(skip_uint(skip_uint(payload + 2)));
    return at[0] == 0xDC ? (uint64_t)(at[1] << 8 | at[2]) : (uint64_t)(at[0] & 0x0F);
}

static void on_gs(struct client *client, const uint8_t *payload, size_t size) {
    uint8_t body[2048];
    size_t length = 0;
    switch (payload[1]) {
    case 1: /* welcome: join */
        body[length++] = 0x94, body[length++] = 2, body[length++] = 1;
        length += put_text(body + length, "game");
        length += put_text(body + length, client->path + strlen(client->path) + 1); /* the game's name is kept behind the path */
        send_frame(client, 2, body, length);
        return;
    case 2:
        client->channel = read_uint(payload + 3);
        if (actions_steer < 0) {
            actions_steer = find_action(payload, size, "steer");
            actions_shout = find_action(payload, size, "shout");
            if (actions_steer < 0 || actions_shout < 0) die("the game's actions were not found in the answer to the join");
        }
        enter(client);
        return;
    case 3:
        frames += (uint64_t)measuring;
        if (mode == PLAY) look_for_mark(client, payload, size);
        return;
    case 5: /* one message may carry several events: they count one by one */
        if (measuring) events += count_events(payload);
        look_for_mark(client, payload, size);
        return;
    case 7:
    case 10:
        fail(client, "the server sent an error");
    }
}

static void on_message(struct client *client, int opcode, const uint8_t *payload, size_t size) {
    if (measuring) messages++, bytes += size;
    if (opcode == 9) { send_frame(client, 10, payload, size); return; }
    if (opcode == 8) { fail(client, "closed by the server"); return; }
    if (size < 1) return;
    if (protocol == GS) { if (size >= 2) on_gs(client, payload, size); return; }
    if (protocol == RAW) {
        int event = size > 1 && payload[1] == 1;
        if (measuring) { if (event) events++; else frames++; }
        if (event || mode == PLAY) look_for_mark(client, payload, size);
    } else if (protocol == COLYSEUS) {
        if (payload[0] == 10) { uint8_t yes = 10; send_frame(client, 2, &yes, 1); }
        else if (payload[0] == 14) { if (client->stage != JOINED) enter(client); }
        else if (payload[0] == 15) {
            frames += (uint64_t)measuring;
            if (mode == PLAY) look_for_mark(client, payload, size);
        } else if (payload[0] == 13) {
            events += (uint64_t)measuring;
            look_for_mark(client, payload, size);
        } else if (payload[0] == 11) fail(client, "the server sent an error");
    } else { /* engine.io: 0 open, 2 ping, 4 message; socket.io: 40 connected, 42 event */
        if (payload[0] == '0') send_frame(client, 1, "40", 2);
        else if (payload[0] == '2') send_frame(client, 1, "3", 1);
        else if (size > 1 && payload[0] == '4' && payload[1] == '0') enter(client);
        else if (size > 12 && payload[1] == '2') {
            int event = memcmp(payload, "42[\"shout\"", 10) == 0;
            if (measuring) { if (event) events++; else frames++; }
            if (event || mode == PLAY) look_for_mark(client, payload, size);
        }
    }
}

/* Gives back how many bytes of `data` were used. */
static size_t cut(struct client *client, const uint8_t *data, size_t size) {
    size_t at = 0;
    if (client->stage == UPGRADING) {
        const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
        if (end == NULL) return 0;
        if (size < 12 || memcmp(data + 9, "101", 3) != 0) die("the upgrade was refused: %.60s", (const char *)data);
        at = (size_t)(end - data) + 4;
        client->stage = GREETING;
        if (protocol == RAW) enter(client);
        if (protocol == GS) { /* [1, 1, token] */
            uint8_t body[2048] = {0x93, 1, 1};
            send_frame(client, 2, body, 3 + put_text(body + 3, client->token));
        }
    }
    while (size - at >= 2 && client->fd >= 0) {
        size_t start = at + 2;
        uint64_t length = data[at + 1] & 0x7F;
        if (length >= 126) {
            int extra = length == 126 ? 2 : 8;
            start += (size_t)extra;
            if (size < start) break;
            length = 0;
            for (int i = extra; i > 0; i--) length = length << 8 | data[start - (size_t)i];
        }
        if (size - start < length) break;
        on_message(client, data[at] & 0x0F, data + start, length);
        at = start + length;
    }
    return at;
}

static void keep(struct client *client, const uint8_t *data, size_t size) {
    if (size > client->rest_room) {
        client->rest_room = size * 2;
        client->rest = realloc(client->rest, client->rest_room);
        if (client->rest == NULL) die("out of memory");
    }
    memmove(client->rest, data, size);
    client->rest_size = size;
}

static void on_readable(struct client *client) {
    size_t before = client->rest_size;
    if (before > CHUNK / 2) die("a message is too large");
    if (before) memcpy(chunk, client->rest, before);
    ssize_t got = recv(client->fd, chunk + before, CHUNK - before, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { fail(client, got < 0 ? strerror(errno) : "connection ended"); return; }
    size_t size = before + (size_t)got, used = cut(client, chunk, size);
    client->rest_size = 0;
    if (used < size && client->fd >= 0) keep(client, chunk + used, size - used);
}

/* --- connecting ------------------------------------------------------------------------------------------------------- */
static void start_connecting(struct client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    /* One loopback address has 28,000 ports to offer: more clients come from further ones. */
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(0x7F000001u + (uint32_t)(client - clients) / 20000);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) die("socket: %s", strerror(errno));
    int yes = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(client->fd, (struct sockaddr *)&source, sizeof source) != 0) die("bind: %s", strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    client->stage = CONNECTING;
    connecting++;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event);
}

static void on_connected(struct client *client) {
    int problem = 0;
    socklen_t length = sizeof problem;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &problem, &length);
    if (problem) die("connect: %s", strerror(problem));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
    client->stage = UPGRADING;
    char request[2048];
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        client->path, port, protocol == GS ? "Sec-WebSocket-Protocol: gameserver.v1\r\n" : "");
    send_all(client, request, (size_t)size);
}

static void read_connections(const char *name) {
    FILE *file = fopen(name, "r");
    char line[4096];
    if (file == NULL) die("%s: %s", name, strerror(errno));
    for (int i = 0; i < count; i++) {
        if (fgets(line, sizeof line, file) == NULL) die("%s has only %d lines", name, i);
        line[strcspn(line, "\n")] = 0;
        char *rest = line, *path = strsep(&rest, "\t"), *game = strsep(&rest, "\t"), *token = rest;
        size_t length = strlen(path) + 1;
        clients[i].path = malloc(length + (game ? strlen(game) : 0) + 1);
        strcpy(clients[i].path, path);
        strcpy(clients[i].path + length, game ? game : "");
        clients[i].token = strdup(token ? token : "");
        clients[i].fd = -1;
    }
    fclose(file);
}

static double percentile(double share) {
    uint64_t wanted = (uint64_t)((double)seen * share), sum = 0;
    for (int i = 0; i <= BUCKETS; i++) {
        sum += histogram[i];
        if (sum > wanted) return i / 10.0;
    }
    return 0;
}

static void report(const char *what) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec
               + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    printf("{\"what\": \"%s\", \"at\": %.6f, \"cpu_seconds\": %.6f, \"clients\": %d, \"frames\": %lu, \"messages\": %lu, "
           "\"bytes\": %lu, \"inputs\": %lu, \"events\": %lu, \"errors\": %lu, \"blocked\": %lu, \"seen\": %lu, "
           "\"p50_ms\": %.1f, \"p99_ms\": %.1f}\n",
           what, now(), cpu, joined, frames, messages, bytes, inputs, events, errors, blocked, seen,
           percentile(0.5), percentile(0.99));
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 9) die("PORT PROTOCOL CLIENTS CONNECTIONS_FILE RATE WARM_UP_SECONDS SECONDS MODE");
    port = atoi(argv[1]);
    protocol = !strcmp(argv[2], "gs") ? GS : !strcmp(argv[2], "sio") ? SIO : !strcmp(argv[2], "colyseus") ? COLYSEUS : RAW;
    count = atoi(argv[3]);
    double rate = atof(argv[5]), warm_up = atof(argv[6]), seconds = atof(argv[7]);
    mode = !strcmp(argv[8], "shout") ? SHOUT : !strcmp(argv[8], "idle") ? IDLE : PLAY;
    clients = calloc((size_t)count, sizeof *clients);
    read_connections(argv[4]);
    epoll_fd = epoll_create1(0);

    struct epoll_event ready[512];
    int next = 0;
    double began = now(), started = 0, ends = 0, turn = 0, step = rate > 0 ? 1 / rate / count : 0;
    uint64_t done = 0;
    for (;;) {
        while (next < count && connecting < CONNECTING_MAX) start_connecting(&clients[next++]);
        double at = now();
        if (joined < count) {
            if (at - began > START_SECONDS_MAX) die("only %d of %d clients joined", joined, count);
        } else if (started == 0) {
            started = turn = at;
        } else if (!measuring && at >= started + warm_up && ends == 0) {
            report("start");
            measuring = 1;
            ends = at + seconds;
        } else if (measuring && at >= ends) {
            measuring = 0;
            report("end");
            return errors ? 1 : 0;
        }
        int wait_ms = 10;
        if (started && step > 0 && mode != IDLE) {
            /* Inputs are spread evenly over time, client after client. */
            uint64_t due = (uint64_t)((at - turn) / step);
            if (due - done > (uint64_t)count) done = due - (uint64_t)count; /* never a burst after a stall */
            for (; done < due; done++) {
                struct client *client = &clients[done % (uint64_t)count];
                if (client->stage == JOINED) act(client, at);
            }
            wait_ms = 1;
        }
        int events_count = epoll_wait(epoll_fd, ready, 512, wait_ms);
        for (int i = 0; i < events_count; i++) {
            struct client *client = ready[i].data.ptr;
            if (client->fd < 0) continue;
            if (client->stage == CONNECTING) on_connected(client);
            else on_readable(client);
        }
    }
}
