package tollbridge.sandbox;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;

import org.apache.cassandra.auth.AuthenticatedUser;
import org.apache.cassandra.auth.IAuthenticator;
import org.apache.cassandra.auth.IResource;
import org.apache.cassandra.auth.Permission;
import org.apache.cassandra.cql3.QueryProcessor;
import org.apache.cassandra.db.ConsistencyLevel;
import org.apache.cassandra.exceptions.AuthenticationException;

/**
 * Lets clients into Cassandra as Amazon Keyspaces does: by a signature of a nonce, or by a service-specific password.
 *
 * The signature is judged by the sandbox's AWS, over a unix socket; its answer says who the client is and what policies
 * allow it. What a client may do is settled there, once, at login: Cassandra's own roles are not looked at.
 *
 * Settings are system properties: sandbox.socket, sandbox.service (as the judge knows this server), sandbox.user and
 * sandbox.password (the one client with a password; may do everything), sandbox.peers (how many neighbours to invent),
 * sandbox.port (where they and this server listen), sandbox.seed (a file of statements without a semicolon in them).
 */
public final class KeyspacesAuthenticator implements IAuthenticator
{
    private static final byte[] SIGV4 = "SigV4\0\0".getBytes(StandardCharsets.US_ASCII);
    private static final int NONCE_BYTES = 16;
    private static final int LONGEST_ANSWER = 4096;
    private static final SecureRandom RANDOM = new SecureRandom();

    @Override
    public boolean requireAuthentication()
    {
        return true;
    }

    @Override
    public Set<? extends IResource> protectedResources()
    {
        return Set.of();
    }

    @Override
    public void validateConfiguration()
    {
    }

    /**
     * The seed, and neighbours: Keyspaces shows a client a ring of nodes, and a driver that sees one connects to all of
     * it. Nobody listens on the addresses written here, unless a test does, to see who comes.
     */
    @Override
    public void setup()
    {
        try
        {
            for (String statement : Files.readString(Path.of(System.getProperty("sandbox.seed"))).split(";"))
                if (!statement.isBlank())
                    QueryProcessor.process(statement, ConsistencyLevel.ONE);
        }
        catch (IOException missing)
        {
            throw new UncheckedIOException(missing);
        }
        int port = Integer.getInteger("sandbox.port");
        for (int i = 0; i < Integer.getInteger("sandbox.peers"); i++)
        {
            String address = "127.0.0." + (i + 2);
            UUID host = new UUID(0x1111111111111111L, i + 2);
            String token = Long.toString(Long.MIN_VALUE / 16 * (i + 1));
            QueryProcessor.executeInternal(
                "INSERT INTO system.peers_v2 (peer, peer_port, data_center, host_id, native_address, native_port, rack,"
                + " release_version, tokens) VALUES ('" + address + "', 7000, 'datacenter1', " + host + ", '" + address
                + "', " + port + ", 'rack1', '3.11.2', {'" + token + "'})");
            QueryProcessor.executeInternal(
                "INSERT INTO system.peers (peer, data_center, host_id, rpc_address, rack, release_version, tokens)"
                + " VALUES ('" + address + "', 'datacenter1', " + host + ", '" + address
                + "', 'rack1', '3.11.2', {'" + token + "'})");
        }
    }

    @Override
    public SaslNegotiator newSaslNegotiator(InetAddress clientAddress)
    {
        return new Negotiator();
    }

    @Override
    public AuthenticatedUser legacyAuthenticate(Map<String, String> credentials)
    {
        throw new AuthenticationException("native protocol version 1 is not served");
    }

    private static final class Negotiator implements SaslNegotiator
    {
        private String nonce;
        private AuthenticatedUser user;

        @Override
        public byte[] evaluateResponse(byte[] response)
        {
            if (user != null)
                throw new AuthenticationException("this connection is logged in");
            if (nonce != null)
                user = judged(nonce, new String(response, StandardCharsets.UTF_8));
            else if (Arrays.equals(response, SIGV4))
                return challenge();
            else
                user = withPassword(response);
            return null;
        }

        private byte[] challenge()
        {
            byte[] random = new byte[NONCE_BYTES];
            RANDOM.nextBytes(random);
            nonce = HexFormat.of().formatHex(random);
            return ("nonce=" + nonce).getBytes(StandardCharsets.US_ASCII);
        }

        @Override
        public boolean isComplete()
        {
            return user != null;
        }

        @Override
        public AuthenticatedUser getAuthenticatedUser()
        {
            if (user == null)
                throw new AuthenticationException("the login is not complete");
            return user;
        }
    }

    /** Who an identity is to Cassandra: a name that no role has, and the permissions that were found at login. */
    private static final class Visitor extends AuthenticatedUser
    {
        private final Set<Permission> permissions;

        Visitor(String name, Set<Permission> permissions)
        {
            super(name);
            this.permissions = permissions;
        }

        @Override
        public boolean canLogin()
        {
            return true;
        }

        @Override
        public boolean isSuper()
        {
            return permissions.contains(Permission.AUTHORIZE);
        }

        @Override
        public Set<Permission> getPermissions(IResource resource)
        {
            return permissions;
        }
    }

    private static AuthenticatedUser withPassword(byte[] plain)
    {
        String expected = "\0" + System.getProperty("sandbox.user") + "\0" + System.getProperty("sandbox.password");
        if (!MessageDigest.isEqual(plain, expected.getBytes(StandardCharsets.UTF_8)))
            throw new AuthenticationException("Provided username and/or password are incorrect");
        return new Visitor(System.getProperty("sandbox.user"), Permission.ALL);
    }

    private static AuthenticatedUser judged(String nonce, String proof)
    {
        String answer;
        try
        {
            answer = ask(System.getProperty("sandbox.service") + "\0" + nonce + "\0" + proof);
        }
        catch (Exception broken)
        {
            throw new AuthenticationException("the login could not be checked: " + broken.getClass().getSimpleName());
        }
        // "1 ARN PERMISSION..." or "0"
        String[] words = answer.split(" ");
        if (!words[0].equals("1") || words.length < 2)
            throw new AuthenticationException("Authentication failure: the signature or its signer is not accepted");
        Set<Permission> permissions =
            Arrays.stream(words).skip(2).map(Permission::valueOf).collect(Collectors.toUnmodifiableSet());
        return new Visitor(words[1], permissions);
    }

    private static String ask(String question) throws Exception
    {
        var address = UnixDomainSocketAddress.of(System.getProperty("sandbox.socket"));
        try (SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX))
        {
            channel.connect(address);
            ByteBuffer request = StandardCharsets.UTF_8.encode(question);
            while (request.hasRemaining())
                channel.write(request);
            channel.shutdownOutput();
            ByteBuffer answer = ByteBuffer.allocate(LONGEST_ANSWER);
            while (answer.hasRemaining() && channel.read(answer) >= 0) {}
            return StandardCharsets.UTF_8.decode(answer.flip()).toString();
        }
    }
}
