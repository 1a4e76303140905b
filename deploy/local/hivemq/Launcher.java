// Starts HiveMQ Community Edition as a library: `Launcher FOLDER [USER PASSWORD_FILE]`.
//
// FOLDER holds conf/config.xml, data/ and extensions/. With a user, clients must give it with its password (the first line of
// the file); without one, everybody is let in, as HiveMQ does when no extension asks.

import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.embedded.EmbeddedHiveMQBuilder;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.concurrent.CountDownLatch;

/** Starts the broker and stays until it is asked to end. */
public final class Launcher {
    private Launcher() {}

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        EmbeddedHiveMQBuilder builder = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder.resolve("conf"))
                .withDataFolder(folder.resolve("data"))
                .withExtensionsFolder(folder.resolve("extensions"));
        if (arguments.length > 2 && !arguments[1].isEmpty()) {
            builder.withEmbeddedExtension(EmbeddedExtension.builder()
                    .withId("telltale-login")
                    .withName("User and password")
                    .withVersion("1")
                    .withExtensionMain(new Login(arguments[1], Path.of(arguments[2])))
                    .build());
        }
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

    /** Lets in one user with one password; it may publish and subscribe everywhere. */
    private static final class Login implements ExtensionMain, SimpleAuthenticator {
        private final String user;
        private final byte[] password;

        Login(String user, Path passwordFile) throws IOException {
            this.user = user;
            try (var lines = Files.lines(passwordFile)) {
                this.password = lines.findFirst().orElse("").getBytes(StandardCharsets.UTF_8);
            }
        }

        @Override
        public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            Services.securityRegistry().setAuthenticatorProvider(ignored -> this);
        }

        @Override
        public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}

        @Override
        public void onConnect(SimpleAuthInput input, SimpleAuthOutput output) {
            var connect = input.getConnectPacket();
            byte[] given = connect.getPassword().map(Login::bytes).orElse(new byte[0]);
            boolean known = connect.getUserName().map(user::equals).orElse(false);
            if (known && MessageDigest.isEqual(given, password)) {
                output.getDefaultPermissions().add(Builders.topicPermission().topicFilter("#").build());
                output.authenticateSuccessfully();
            } else {
                output.failAuthentication(ConnackReasonCode.BAD_USER_NAME_OR_PASSWORD, "wrong user or password");
            }
        }

        private static byte[] bytes(ByteBuffer buffer) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            return bytes;
        }
    }
}
