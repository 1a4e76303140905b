package telltale.peers;

import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/**
 * Moves a topic exactly once with Kafka Streams: {@code convert} makes Avro of JSON, {@code score} predictions of Avro.
 *
 * <p>Goes over the whole topic again and again under names of its own until so many records have warmed the JVM up, and then, in
 * the same process, once more as the group that is measured, by the offsets that it commits. Then it waits to be ended.
 */
public final class Streams {
    private static final Duration PATIENCE = Duration.ofMinutes(5);

    private final Map<String, String> flags = new HashMap<>();
    private final String job;

    private Streams(String[] arguments) {
        job = arguments[0];
        for (int at = 1; at + 1 < arguments.length; at += 2) {
            flags.put(arguments[at], arguments[at + 1]);
        }
    }

    /** Runs {@code convert} or {@code score} with flags, each with a value; streams.sh gives them. */
    public static void main(String[] arguments) throws Exception {
        var it = new Streams(arguments);
        long records = Long.parseLong(it.flag("--records"));
        long warm = Long.parseLong(it.flag("--warm-up"));
        for (long pass = 0; pass * records < warm; pass++) {
            it.pass(it.flag("--group") + "-warm-" + pass, it.flag("--warm-to"), records, Duration.ZERO);
        }
        // Measured from outside, which must not see the end of a JVM.
        it.pass(it.flag("--group"), it.flag("--to"), records, PATIENCE);
    }

    private String flag(String name) {
        String value = flags.get(name);
        if (value == null) {
            throw new IllegalArgumentException(job + " needs " + name);
        }
        return value;
    }

    /** Goes over the topic once, and stays for a while. */
    private void pass(String group, String to, long records, Duration stay) throws InterruptedException {
        var seen = new LongAdder();
        var builder = new StreamsBuilder();
        builder.<byte[], byte[]>stream(flag("--from")).processValues(() -> step(seen)).to(to);
        try (var streams = new KafkaStreams(builder.build(), properties(group))) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
                return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
            });
            long began = System.nanoTime();
            long used = cpuNanos();
            streams.start();
            while (seen.sum() < records) {
                if (System.nanoTime() - began > PATIENCE.toNanos()) {
                    throw new IllegalStateException(group + ": " + seen.sum() + " of " + records + " after " + PATIENCE);
                }
                Thread.sleep(5);
            }
            // How warm the JVM is can be read off the log.
            double seconds = (cpuNanos() - used) / 1e9;
            System.err.printf("%s: %d records, %.0f per CPU second%n", group, records, records / seconds);
            Thread.sleep(stay.toMillis());
        }
    }

    private Properties properties(String group) {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, flag("--kafka"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, flag("--state"));
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        return settings;
    }

    private FixedKeyProcessor<byte[], byte[], byte[]> step(LongAdder seen) {
        var readings = new Readings(Path.of(flag("--schemas")));
        Model model = job.equals("score") ? new Model(flag("--model"), readings) : null;
        return new FixedKeyProcessor<>() {
            private FixedKeyProcessorContext<byte[], byte[]> context;

            @Override
            public void init(FixedKeyProcessorContext<byte[], byte[]> context) {
                this.context = context;
            }

            @Override
            public void process(FixedKeyRecord<byte[], byte[]> record) {
                byte[] value;
                if (model == null) {
                    value = readings.convert(new String(record.key()), record.value());
                } else {
                    RecordMetadata from = context.recordMetadata().orElseThrow();
                    var reading = readings.decode(record.value());
                    double score = model.score(reading);
                    value = readings.predicted(reading, score, model.threshold, from.partition(), from.offset());
                }
                context.forward(record.withValue(value));
                seen.increment();
            }
        };
    }

    private static long cpuNanos() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime();
    }
}
