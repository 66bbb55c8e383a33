/*
 * PostgreSQL module of the sandbox: the startup parameters that Redshift's drivers send, which PostgreSQL would refuse
 * as unknown settings. Their values are kept and mean nothing; server_protocol_version is reported to the client, and
 * Redshift's server_version.
 *
 *   shared_preload_libraries = '/path/redshift_parameters.so'
 *
 * Needs no headers of PostgreSQL's: what it uses of them is below, as versions 13 to 17 have it. Test use only.
 */
#include <stddef.h>

struct magic {
    int length, version, most_arguments, most_keys, name_length, float_by_value;
    char fork[32];
};

const struct magic *Pg_magic_func(void)
{
    /* MAJOR is given by the compiler's command line. */
    static const struct magic ours = {sizeof ours, MAJOR * 100, 100, 32, 64, 1, "PostgreSQL"};
    return &ours;
}

enum { INTERNAL = 0, ANY_USER = 6, OVERRIDE = 10, REPORTED = 0x0010 };

extern void DefineCustomStringVariable(const char *name, const char *short_text, const char *long_text, char **value,
                                       const char *initial, int context, int flags, void *check, void *assign,
                                       void *show);

extern void SetConfigOption(const char *name, const char *value, int context, int source);

void _PG_init(void)
{
    static const char *const names[] = {
        "client_protocol_version", "driver_version", "os_version", "driver_discovery_version",
        "plugin_name", "idp_type", "provider_name",
    };
    static char *values[sizeof names / sizeof *names], *protocol;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        DefineCustomStringVariable(names[i], "Said by a driver", NULL, &values[i], "", ANY_USER, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("server_protocol_version", "Base protocol", NULL, &protocol, "0", ANY_USER, REPORTED,
                               NULL, NULL, NULL);
    /* Amazon's driver takes no version with a distribution behind it, and this is the one that Redshift reports. */
    SetConfigOption("server_version", "8.0.2", INTERNAL, OVERRIDE);
}
