/*
 * PAM module of the sandbox: the password is an IAM token, and somebody else judges it.
 *
 *   auth required /path/pam_token.so /path/verify.sock
 *
 * One connection per login: "service NUL user NUL token", end of data, then one byte back: '1' lets the user in,
 * anything else (or silence) does not. It exists because pam_exec cuts a password at 511 bytes and a token has more
 * than a thousand. Test use only.
 */
#define PAM_SM_AUTH

#include <errno.h>
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Long enough for a thousand logins at once on a busy machine to have their turn. A verifier that hangs must not hold a
 * connection slot for ever: the server's own authentication_timeout does
 * not interrupt a module that sits in read(). */
static const struct timeval PATIENCE = {.tv_sec = 15, .tv_usec = 0};

static int send_all(int fd, const char *data, size_t left)
{
    while (left > 0) {
        /* MSG_NOSIGNAL: a verifier that hangs up must not kill the server process with SIGPIPE. */
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

static int connect_verifier(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* On a unix socket SO_SNDTIMEO bounds connect() too, where it waits for room in the listener's queue. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &PATIENCE, sizeof PATIENCE) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &PATIENCE, sizeof PATIENCE) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int verifier_accepts(const char *path, const char *service, const char *user, const char *token)
{
    char answer = '0';
    int fd = connect_verifier(path);
    if (fd < 0)
        return 0;
    if (send_all(fd, service, strlen(service) + 1) == 0 && send_all(fd, user, strlen(user) + 1) == 0 &&
        send_all(fd, token, strlen(token)) == 0 && shutdown(fd, SHUT_WR) == 0) {
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

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *user = NULL, *token = NULL;
    const void *service = NULL;
    (void)flags;
    if (argc != 1)
        return PAM_SYSTEM_ERR;
    if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS || user == NULL)
        return PAM_USER_UNKNOWN;
    if (pam_get_item(pamh, PAM_SERVICE, &service) != PAM_SUCCESS || service == NULL)
        return PAM_SYSTEM_ERR;
    if (pam_get_authtok(pamh, PAM_AUTHTOK, &token, NULL) != PAM_SUCCESS || token == NULL || *token == '\0')
        return PAM_AUTH_ERR;
    return verifier_accepts(argv[0], service, user, token) ? PAM_SUCCESS : PAM_AUTH_ERR;
}

int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
