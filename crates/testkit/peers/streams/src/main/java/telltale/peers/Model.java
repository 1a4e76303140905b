package telltale.peers;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.FloatBuffer;
import java.util.Map;
import org.apache.avro.generic.GenericRecord;

/** The model that the scorer has, in ONNX Runtime: one call a reading, as a stream processor gets them. For one thread. */
final class Model {
    /** A score above it is an anomaly. */
    final double threshold;

    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession session;
    private final int[] columns;
    private final float[] row;

    Model(String file, Readings readings) {
        try (var options = new OrtSession.SessionOptions()) {
            // A thread of its own for 18 numbers would cost more than it computes.
            options.setIntraOpNumThreads(1);
            session = environment.createSession(file, options);
            Map<String, String> about = session.getMetadata().getCustomMetadata();
            threshold = Double.parseDouble(about.get("threshold"));
            String[] names = about.get("columns").split(",");
            columns = new int[names.length];
            for (int at = 0; at < names.length; at++) {
                columns[at] = readings.position(names[at]);
            }
            row = new float[names.length];
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }

    /** The score of a reading. */
    double score(GenericRecord reading) {
        for (int at = 0; at < columns.length; at++) {
            row[at] = ((Number) reading.get(columns[at])).floatValue();
        }
        try (var input = OnnxTensor.createTensor(environment, FloatBuffer.wrap(row), new long[] {1, row.length});
                var output = session.run(Map.of("row", input))) {
            return ((float[]) output.get(0).getValue())[0];
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }
}
