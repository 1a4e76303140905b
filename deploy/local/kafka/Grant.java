// Gives Kafka's users their rights: `Grant CLIENT_PROPERTIES ACLS`. Rights that are there already stay as they are.

import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Reads the table of rights and hands it to Kafka in one request. */
public final class Grant {
    private Grant() {}

    public static void main(String[] arguments) throws Exception {
        Properties client = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            client.load(reader);
        }
        List<AclBinding> rights = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            if (!line.isBlank() && !line.startsWith("#")) {
                add(rights, line.trim().split("\\s+"));
            }
        }
        try (Admin admin = Admin.create(client)) {
            admin.createAcls(rights).all().get(120, TimeUnit.SECONDS);
        }
        System.out.println(rights.size() + " rights are given");
    }

    private static void add(List<AclBinding> rights, String[] columns) {
        if (columns.length != 4) {
            throw new IllegalArgumentException("not `user operations resource name`: " + String.join(" ", columns));
        }
        String name = columns[3];
        boolean prefix = name.length() > 1 && name.endsWith("*");
        ResourcePattern resource = new ResourcePattern(
                ResourceType.fromString(columns[2]),
                prefix ? name.substring(0, name.length() - 1) : name,
                prefix ? PatternType.PREFIXED : PatternType.LITERAL);
        for (String operation : columns[1].split(",")) {
            rights.add(new AclBinding(resource, new AccessControlEntry(
                    "User:" + columns[0], "*", AclOperation.fromString(operation), AclPermissionType.ALLOW)));
        }
    }
}
