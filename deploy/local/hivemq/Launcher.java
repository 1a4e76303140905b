// Starts HiveMQ Community Edition as a library: `Launcher FOLDER [LOGINS PERMISSIONS]`.
//
// FOLDER holds conf/config.xml, data/ and extensions/. LOGINS has a line `user role password-file` for each user, PERMISSIONS a
// line `role activity filter` for each thing a role may do. Without them everybody is let in, as HiveMQ does when no extension
// asks.

import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.embedded.EmbeddedHiveMQBuilder;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.auth.parameter.TopicPermission.MqttActivity;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.packets.general.Qos;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import com.hivemq.extension.sdk.api.services.publish.Publish;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Starts the broker and stays until it is asked to end. */
public final class Launcher {
    private Launcher() {}

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        EmbeddedHiveMQBuilder builder = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder.resolve("conf"))
                .withDataFolder(folder.resolve("data"))
                .withExtensionsFolder(folder.resolve("extensions"));
        Logins logins = arguments.length > 2 ? new Logins(Path.of(arguments[1]), Path.of(arguments[2])) : null;
        builder.withEmbeddedExtension(EmbeddedExtension.builder()
                .withId("telltale")
                .withName("Dropped messages; users, passwords and permissions")
                .withVersion("1")
                .withExtensionMain(new Extension(logins))
                .build());
        CountDownLatch asked = new CountDownLatch(1);
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> finish(asked, ended)));
        EmbeddedHiveMQ broker = builder.build();
        try {
            broker.start().get();
            asked.await();
            broker.stop().get();
        } finally {
            ended.countDown();
        }
    }

    /** Lets the main thread stop the broker, and keeps the JVM until it has. */
    private static void finish(CountDownLatch asked, CountDownLatch ended) {
        asked.countDown();
        try {
            ended.await();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Tells how many messages were dropped, and lets in the users of a list if there is one. */
    private static final class Extension implements ExtensionMain {
        private static final String DROPPED = "$SYS/broker/publish/messages/dropped";
        private final Logins logins;

        Extension(Logins logins) {
            this.logins = logins;
        }

        @Override
        public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            if (logins != null) {
                Services.securityRegistry().setAuthenticatorProvider(ignored -> logins);
            }
            Services.extensionExecutorService().scheduleAtFixedRate(this::tell, 1, 1, TimeUnit.SECONDS);
        }

        @Override
        public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}

        /**
         * Tells HiveMQ's own count since its start, where mosquitto and our embedded broker tell theirs; only to those who
         * subscribe to this very topic, since HiveMQ lets # take in topics that begin with $.
         */
        private void tell() {
            long dropped = Services.metricRegistry().counter("com.hivemq.messages.dropped.count").getCount();
            Publish count = Builders.publish()
                    .topic(DROPPED)
                    .qos(Qos.AT_MOST_ONCE)
                    .payload(StandardCharsets.UTF_8.encode(Long.toString(dropped)))
                    .build();
            Services.subscriptionStore().iterateAllSubscribersWithTopicFilter(DROPPED, (context, subscriber) ->
                    Services.publishService().publishToClient(count, subscriber.getClientId()));
        }
    }

    /** A user's password and what its role may do. */
    private record Login(byte[] password, List<Right> rights) {}

    /** One thing a role may do. */
    private record Right(MqttActivity activity, String filter) {}

    /** Lets in the users of a list; each may do what its role may, and nothing else. */
    private static final class Logins implements SimpleAuthenticator {
        private final Map<String, Login> users = new HashMap<>();

        Logins(Path logins, Path permissions) throws IOException {
            Map<String, List<Right>> roles = new HashMap<>();
            for (String[] columns : table(permissions)) {
                Right right = new Right(MqttActivity.valueOf(columns[1]), columns[2]);
                roles.computeIfAbsent(columns[0], ignored -> new ArrayList<>()).add(right);
            }
            for (String[] columns : table(logins)) {
                List<Right> rights = roles.get(columns[1]);
                if (rights == null) {
                    throw new IOException(permissions + " knows no role " + columns[1] + ", given to " + columns[0]);
                }
                String password = Files.readAllLines(Path.of(columns[2])).get(0);
                users.put(columns[0], new Login(password.getBytes(StandardCharsets.UTF_8), rights));
            }
        }

        /** The lines of a file, each in three columns, without comments. */
        private static List<String[]> table(Path file) throws IOException {
            return Files.readAllLines(file).stream()
                    .filter(line -> !line.isBlank() && !line.startsWith("#"))
                    .map(line -> line.trim().split("\\s+", 3))
                    .toList();
        }

        @Override
        public void onConnect(SimpleAuthInput input, SimpleAuthOutput output) {
            var connect = input.getConnectPacket();
            byte[] given = connect.getPassword().map(Logins::bytes).orElse(new byte[0]);
            Login login = connect.getUserName().map(users::get).orElse(null);
            String client = connect.getClientId();
            if (login == null || !MessageDigest.isEqual(given, login.password())) {
                output.failAuthentication(ConnackReasonCode.BAD_USER_NAME_OR_PASSWORD, "wrong user or password");
            } else if (client.matches(".*[#+/].*")) {
                // It becomes part of a topic filter, where these would widen what the client may do.
                output.failAuthentication(ConnackReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "#, + or / in the client id");
            } else {
                for (Right right : login.rights()) {
                    String filter = right.filter().replace("{client}", client);
                    output.getDefaultPermissions()
                            .add(Builders.topicPermission().topicFilter(filter).activity(right.activity()).build());
                }
                output.authenticateSuccessfully();
            }
        }

        private static byte[] bytes(ByteBuffer buffer) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            return bytes;
        }
    }
}
