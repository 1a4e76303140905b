package telltale;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;

import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;

/**
 * Counts the anomalies of each car in each minute, exactly once.
 *
 * <pre>model-predictions ─▶ verdict ANOMALY ─▶ per car and minute of event time ─▶ anomalies-per-minute: CAR@MINUTE ─▶ count</pre>
 *
 * <p>The event time is Kafka's time stamp of a prediction, so no extractor is needed. Ctrl-C or SIGTERM ends the program.
 */
public final class AnomaliesPerMinute {
    private static final String SOURCE = "model-predictions";
    private static final String TARGET = "anomalies-per-minute";
    private static final Duration MINUTE = Duration.ofMinutes(1);
    /** A car may be away for a day and still have its anomalies counted. */
    private static final Duration LATE = Duration.ofDays(1);

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 3) {
            System.err.println("usage: AnomaliesPerMinute KAFKA REGISTRY-URL STATE-FOLDER");
            System.exit(2);
        }
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, TARGET);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        // Counts, positions and outputs in one transaction. It also reads committed records only, as our services write them.
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, -1);
        // Each count is told as it changes, instead of the last of each commit.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        // How soon the partitions of a process that was killed go to the next.
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 10_000);

        createTarget(settings);
        var streams = new KafkaStreams(topology(arguments[1]), settings);
        var ended = new CountDownLatch(1);
        var failed = new AtomicBoolean();
        streams.setUncaughtExceptionHandler(error -> {
            System.err.println("stopped: " + error);
            failed.set(true);
            ended.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(30));
            ended.countDown();
        }));
        streams.start();
        ended.await();
        if (failed.get()) {
            System.exit(1);
        }
    }

    static Topology topology(String registry) {
        var predictions = new AvroDeserializer();
        predictions.configure(Map.of("schema.registry.url", registry), false);
        Serializer<GenericRecord> none = (topic, record) -> {
            throw new UnsupportedOperationException("predictions are read, never written");
        };
        Serde<GenericRecord> values = Serdes.serdeFrom(none, predictions);

        var builder = new StreamsBuilder();
        builder.stream(SOURCE, Consumed.with(Serdes.String(), values))
                .filter((car, prediction) -> "ANOMALY".equals(prediction.get("verdict").toString()))
                .mapValues(prediction -> "")
                // The key is the car already, so nothing is sent around to be grouped.
                .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
                .windowedBy(TimeWindows.ofSizeAndGrace(MINUTE, LATE))
                .count(Materialized.<String, Long>as(Stores.inMemoryWindowStore("counts", LATE.plus(MINUTE), MINUTE, false))
                        .withKeySerde(Serdes.String())
                        .withValueSerde(Serdes.Long()))
                .toStream((window, count) -> window.key() + "@" + window.window().startTime())
                .mapValues(count -> Long.toString(count))
                .to(TARGET, Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    /** Makes the target, of which each key's last value counts, with the brokers' own number of partitions. */
    private static void createTarget(Properties settings) throws ExecutionException, InterruptedException {
        var topic = new NewTopic(TARGET, Optional.empty(), Optional.empty()).configs(Map.of("cleanup.policy", "compact"));
        try (var admin = Admin.create(settings)) {
            admin.createTopics(List.of(topic)).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
    }
}
