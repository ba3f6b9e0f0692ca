import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import java.io.File;
import java.util.Map;
import java.util.TreeSet;

/** Read Strimzi's resources with Strimzi's own model, and print of each the fields that the model does not know. */
class StrimziReader {
    static final Map<String, String> MODELS = Map.of(
        "Kafka", "io.strimzi.api.kafka.model.kafka.Kafka",
        "KafkaNodePool", "io.strimzi.api.kafka.model.nodepool.KafkaNodePool",
        "KafkaTopic", "io.strimzi.api.kafka.model.topic.KafkaTopic",
        "KafkaUser", "io.strimzi.api.kafka.model.user.KafkaUser");

    public static void main(String[] files) throws Exception {
        var mapper = new ObjectMapper(new YAMLFactory());
        for (var file : files) {
            var documents = mapper.readerFor(JsonNode.class).<JsonNode>readValues(new File(file));
            while (documents.hasNext()) {
                var document = documents.next();
                if (document == null || !document.has("kind")) continue;
                var kind = document.get("kind").asText();
                var unknown = new TreeSet<String>();
                look("", mapper.treeToValue(document, Class.forName(MODELS.get(kind))), unknown);
                System.out.println(kind + " " + document.at("/metadata/name").asText() + " " + unknown);
            }
        }
    }

    /** What a class of the model has no field for is among its additional properties. */
    static void look(String path, Object found, TreeSet<String> unknown) throws Exception {
        if (found instanceof Iterable<?> many) {
            int at = 0;
            for (var one : many) look(path + "[" + at++ + "]", one, unknown);
            return;
        }
        if (found == null || found.getClass().isEnum() || !found.getClass().getName().startsWith("io.strimzi.")) return;
        for (var method : found.getClass().getMethods()) {
            if (method.getParameterCount() != 0 || !method.getName().startsWith("get")) continue;
            var value = method.invoke(found);
            if (method.getName().equals("getAdditionalProperties")) {
                for (var name : ((Map<?, ?>) value).keySet()) unknown.add(path + "." + name);
            } else {
                look(path + "." + method.getName().substring(3), value, unknown);
            }
        }
    }
}
