package telltale.peers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/**
 * Readings and predictions as bytes. Lean on purpose: no registry is asked, encoder, decoder and buffer are used again, nothing
 * is checked. For one thread.
 */
final class Readings {
    /** Zero byte and schema id before each value. */
    private static final int HEADER = 5;

    private final Schema clean;
    private final Schema prediction;
    private final String[] keys;
    private final Schema.Type[] types;
    private final int car;
    private final int time;
    private final Object normal;
    private final Object anomaly;
    private final ObjectMapper json = new ObjectMapper();
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> cleanWriter;
    private final GenericDatumWriter<GenericRecord> predictionWriter;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    private BinaryEncoder encoder;
    private BinaryDecoder decoder;

    Readings(Path schemas) {
        clean = schema(schemas.resolve("sensor-data-s-avro.avsc"));
        prediction = schema(schemas.resolve("prediction.avsc"));
        List<Schema.Field> fields = clean.getFields();
        keys = fields.stream().map(it -> it.name().toLowerCase(Locale.ROOT)).toArray(String[]::new);
        types = fields.stream().map(it -> it.schema().getTypes().get(1).getType()).toArray(Schema.Type[]::new);
        car = clean.getField("CAR").pos();
        time = clean.getField("EVENT_TIME").pos();
        Schema verdict = prediction.getField("verdict").schema();
        normal = new GenericData.EnumSymbol(verdict, "NORMAL");
        anomaly = new GenericData.EnumSymbol(verdict, "ANOMALY");
        reader = new GenericDatumReader<>(clean);
        cleanWriter = new GenericDatumWriter<>(clean);
        predictionWriter = new GenericDatumWriter<>(prediction);
    }

    /** The clean reading of what a car sent; the car is the record's key. */
    byte[] convert(String key, byte[] sent) {
        try {
            JsonNode tree = json.readTree(sent);
            GenericRecord reading = new GenericData.Record(clean);
            for (int at = 0; at < keys.length; at++) {
                JsonNode value = tree.get(keys[at]);
                if (value == null || value.isNull()) {
                    continue;
                }
                Object typed = switch (types[at]) {
                    case DOUBLE -> value.doubleValue();
                    case INT -> value.intValue();
                    case LONG -> value.longValue();
                    default -> value.textValue();
                };
                reading.put(at, typed);
            }
            reading.put(car, key);
            return framed(cleanWriter, reading);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** A clean reading. */
    GenericRecord decode(byte[] framed) {
        try {
            decoder = DecoderFactory.get().binaryDecoder(framed, HEADER, framed.length - HEADER, decoder);
            return reader.read(null, decoder);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** Where a column is in a clean reading. */
    int position(String column) {
        return clean.getField(column).pos();
    }

    /** What the model made of a reading. Which sensors contributed, as our scorer says, is left out. */
    byte[] predicted(GenericRecord reading, double score, double threshold, int partition, long offset) {
        GenericRecord record = new GenericData.Record(prediction);
        record.put("car", reading.get(car));
        record.put("event_time", reading.get(time));
        record.put("score", score);
        record.put("threshold", threshold);
        record.put("verdict", score > threshold ? anomaly : normal);
        record.put("contributions", List.of());
        record.put("model_name", "peer");
        record.put("model_version", 1L);
        record.put("source_partition", partition);
        record.put("source_offset", offset);
        try {
            return framed(predictionWriter, record);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** Under schema id 1, whatever the registry calls it: nobody asks it for what a bench threw away. */
    private byte[] framed(GenericDatumWriter<GenericRecord> writer, GenericRecord record) throws IOException {
        bytes.reset();
        bytes.write(new byte[] {0, 0, 0, 0, 1});
        encoder = EncoderFactory.get().binaryEncoder(bytes, encoder);
        writer.write(record, encoder);
        encoder.flush();
        return bytes.toByteArray();
    }

    private static Schema schema(Path file) {
        try {
            return new Schema.Parser().parse(Files.readString(file));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
