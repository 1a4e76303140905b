package telltale;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.storage.Converter;

/**
 * Gives Avro records to sinks as maps, whatever registry they are of, as long as it speaks Confluent's API.
 *
 * <p>For where neither Confluent's converter nor Apicurio's can be used. Setting: {@code schema.registry.url}.
 */
public final class AvroConverter implements Converter {
    private final AvroDeserializer deserializer = new AvroDeserializer();

    @Override
    public void configure(Map<String, ?> settings, boolean isKey) {
        deserializer.configure(settings, isKey);
    }

    @Override
    public SchemaAndValue toConnectData(String topic, byte[] value) {
        return value == null ? SchemaAndValue.NULL : new SchemaAndValue(null, plain(deserializer.deserialize(topic, value)));
    }

    @Override
    public byte[] fromConnectData(String topic, Schema schema, Object value) {
        throw new DataException("this converter is for sinks: it reads Avro and writes none");
    }

    /** Avro's classes as those that Connect knows: maps, lists, text, numbers. */
    private static Object plain(Object value) {
        if (value instanceof GenericRecord record) {
            Map<String, Object> fields = new HashMap<>();
            record.getSchema().getFields().forEach(field -> fields.put(field.name(), plain(record.get(field.pos()))));
            return fields;
        }
        if (value instanceof Collection<?> items) {
            List<Object> list = new ArrayList<>(items.size());
            items.forEach(item -> list.add(plain(item)));
            return list;
        }
        return value == null || value instanceof Number || value instanceof Boolean ? value : value.toString();
    }
}
