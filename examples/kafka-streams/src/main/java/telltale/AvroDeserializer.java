package telltale;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/**
 * Decodes Avro in Confluent's wire format: a zero byte, the schema id (4 bytes, big-endian), one record.
 *
 * <p>What Confluent's KafkaAvroDeserializer does, in the few lines that reading takes: that class is in Confluent's own Maven
 * repository, and everything here comes from Maven Central. Setting: {@code schema.registry.url}.
 */
public final class AvroDeserializer implements Deserializer<GenericRecord> {
    private static final int HEADER = 5;

    private final HttpClient http = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build();
    private final ObjectMapper json = new ObjectMapper();
    private final Map<Integer, Schema> schemas = new ConcurrentHashMap<>();
    private String registry;

    @Override
    public void configure(Map<String, ?> settings, boolean isKey) {
        registry = settings.get("schema.registry.url").toString().replaceAll("/$", "");
    }

    @Override
    public GenericRecord deserialize(String topic, byte[] data) {
        if (data == null) {
            return null;
        }
        if (data.length < HEADER || data[0] != 0) {
            throw new SerializationException("a value on " + topic + " is not in Confluent's wire format");
        }
        Schema schema = schemas.computeIfAbsent(ByteBuffer.wrap(data, 1, 4).getInt(), this::fetch);
        try {
            var decoder = DecoderFactory.get().binaryDecoder(data, HEADER, data.length - HEADER, null);
            return new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
        } catch (IOException error) {
            throw new SerializationException("decoding a value of " + topic, error);
        }
    }

    private Schema fetch(int id) {
        var uri = URI.create(registry + "/schemas/ids/" + id);
        var request = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(10)).build();
        try {
            var response = http.send(request, HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                throw new SerializationException(uri + " answers " + response.statusCode() + ": " + response.body());
            }
            return new Schema.Parser().parse(json.readTree(response.body()).get("schema").asText());
        } catch (IOException error) {
            throw new UncheckedIOException("asking " + uri, error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new SerializationException("interrupted while asking " + uri, error);
        }
    }
}
