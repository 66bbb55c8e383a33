/*
 * Valkey module of the sandbox: the password is an IAM token, and somebody else judges it, as in pam_token.c.
 *
 *   loadmodule /path/valkey_auth.so /path/verify.sock SERVICE
 *
 * AUTH and HELLO ... AUTH with a password as long as a token ask the verifier; shorter ones, and those it does not
 * want, go on to the passwords of the ACL, so that a refusal is Valkey's own WRONGPASS. The server waits for the
 * verdict: two seconds at most.
 *
 * ElastiCache closes a connection 12 hours after its last AUTH. `CONFIG SET iamauth.session-milliseconds N` makes it
 * N milliseconds for whoever logs in from then on; 0, as at the start, is never.
 *
 * Needs no headers of Valkey's: a module is handed a function that finds the others by name. Test use only.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct context context;
typedef struct string string;
typedef uint64_t timer_id;
typedef int auth_function(context *, string *user, string *password, string **error);
typedef void timer_function(context *, void *data);
typedef long long get_number(const char *name, void *data);
typedef int set_number(const char *name, long long value, void *data, string **error);

enum { OK = 0, FAILED = 1, HANDLED = 0, NOT_HANDLED = 1, API_VERSION = 1, SHORTEST_TOKEN = 100, CONFIG_DEFAULT = 0 };
static const long long TICK_MILLISECONDS = 50;
static const struct timeval PATIENCE = {.tv_sec = 2, .tv_usec = 0};

static int (*set_module_attributes)(context *, const char *name, int version, int api_version);
static void (*register_auth_callback)(context *, auth_function *);
static const char *(*text_of)(const string *, size_t *length);
static int (*authenticate)(context *, const char *user, size_t length, void *callback, void *data, uint64_t *client);
static unsigned long long (*client_of)(context *);
static int (*close_client)(context *, uint64_t client);
static long long (*now_milliseconds)(void);
static timer_id (*create_timer)(context *, long long milliseconds, timer_function *, void *data);
static int (*register_number)(context *, const char *name, long long value, unsigned flags, long long least,
                              long long most, get_number *, set_number *, void *apply, void *data);
static int (*load_configs)(context *);

static char verify_socket[108], service[128];

/* Sessions that have an end, oldest login first; a client that logs in again moves to the back. */
struct session {
    uint64_t client;
    long long ends_at;
    struct session *next;
};
static struct session *sessions;
static long long session_milliseconds;

static int send_all(int fd, const char *data, size_t left)
{
    while (left > 0) {
        ssize_t sent = send(fd, data, left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        data += sent;
        left -= (size_t)sent;
    }
    return 0;
}

static int verifier_accepts(const char *user, size_t user_length, const char *token, size_t token_length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer = '0';
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    strcpy(address.sun_path, verify_socket);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &PATIENCE, sizeof PATIENCE) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &PATIENCE, sizeof PATIENCE) == 0 &&
        connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        send_all(fd, service, strlen(service) + 1) == 0 && send_all(fd, user, user_length) == 0 &&
        send_all(fd, "", 1) == 0 && send_all(fd, token, token_length) == 0 && shutdown(fd, SHUT_WR) == 0) {
        ssize_t got;
        do
            got = recv(fd, &answer, 1, 0);
        while (got < 0 && errno == EINTR);
        if (got != 1)
            answer = '0';
    }
    close(fd);
    return answer == '1';
}

static void forget(uint64_t client)
{
    for (struct session **at = &sessions; *at != NULL; at = &(*at)->next)
        if ((*at)->client == client) {
            struct session *gone = *at;
            *at = gone->next;
            free(gone);
            return;
        }
}

static void remember(uint64_t client)
{
    forget(client);
    struct session *session = malloc(sizeof *session), **end = &sessions;
    if (session == NULL || session_milliseconds == 0) {
        free(session);
        return;
    }
    *session = (struct session){.client = client, .ends_at = now_milliseconds() + session_milliseconds};
    while (*end != NULL)
        end = &(*end)->next;
    *end = session;
}

static void tick(context *ctx, void *data)
{
    (void)data;
    long long now = now_milliseconds();
    for (struct session **at = &sessions; *at != NULL;) {
        struct session *session = *at;
        if (session->ends_at > now) {
            at = &session->next;
            continue;
        }
        *at = session->next;
        close_client(ctx, session->client);
        free(session);
    }
    create_timer(ctx, TICK_MILLISECONDS, tick, NULL);
}

static int judge(context *ctx, string *user, string *password, string **error)
{
    size_t user_length, token_length;
    const char *name = text_of(user, &user_length), *token = text_of(password, &token_length);
    (void)error;
    if (token_length < SHORTEST_TOKEN || memchr(name, '\0', user_length) != NULL)
        return NOT_HANDLED;
    if (!verifier_accepts(name, user_length, token, token_length))
        return NOT_HANDLED;
    if (authenticate(ctx, name, user_length, NULL, NULL, NULL) != OK)
        return NOT_HANDLED;
    remember(client_of(ctx));
    return HANDLED;
}

static long long get_limit(const char *name, void *data)
{
    (void)name, (void)data;
    return session_milliseconds;
}

static int set_limit(const char *name, long long value, void *data, string **error)
{
    (void)name, (void)data, (void)error;
    session_milliseconds = value;
    return OK;
}

static int find_functions(context *ctx)
{
    /* The first word of the context of OnLoad is the function that finds the rest. */
    int (*find)(const char *name, void *function) = *(int (**)(const char *, void *))ctx;
    return find("RedisModule_SetModuleAttribs", &set_module_attributes) == OK &&
           find("RedisModule_RegisterAuthCallback", &register_auth_callback) == OK &&
           find("RedisModule_StringPtrLen", &text_of) == OK &&
           find("RedisModule_AuthenticateClientWithACLUser", &authenticate) == OK &&
           find("RedisModule_GetClientId", &client_of) == OK &&
           find("RedisModule_DeauthenticateAndCloseClient", &close_client) == OK &&
           find("RedisModule_Milliseconds", &now_milliseconds) == OK &&
           find("RedisModule_CreateTimer", &create_timer) == OK &&
           find("RedisModule_RegisterNumericConfig", &register_number) == OK &&
           find("RedisModule_LoadConfigs", &load_configs) == OK;
}

int RedisModule_OnLoad(context *ctx, string **arguments, int count)
{
    size_t socket_length, service_length;
    if (!find_functions(ctx) || count != 2)
        return FAILED;
    const char *socket_path = text_of(arguments[0], &socket_length);
    const char *service_name = text_of(arguments[1], &service_length);
    if (socket_length >= sizeof verify_socket || service_length >= sizeof service)
        return FAILED;
    memcpy(verify_socket, socket_path, socket_length);
    memcpy(service, service_name, service_length);
    set_module_attributes(ctx, "iamauth", 1, API_VERSION);
    if (register_number(ctx, "session-milliseconds", 0, CONFIG_DEFAULT, 0, INT64_C(86400000), get_limit, set_limit,
                        NULL, NULL) != OK ||
        load_configs(ctx) != OK)
        return FAILED;
    register_auth_callback(ctx, judge);
    create_timer(ctx, TICK_MILLISECONDS, tick, NULL);
    return OK;
}
