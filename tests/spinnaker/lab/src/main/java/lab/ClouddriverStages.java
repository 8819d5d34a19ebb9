package lab;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.netflix.spinnaker.orca.api.pipeline.Task;
import com.netflix.spinnaker.orca.api.pipeline.TaskResult;
import com.netflix.spinnaker.orca.api.pipeline.graph.StageDefinitionBuilder;
import com.netflix.spinnaker.orca.api.pipeline.graph.TaskNode;
import com.netflix.spinnaker.orca.api.pipeline.models.ExecutionStatus;
import com.netflix.spinnaker.orca.api.pipeline.models.StageExecution;
import com.netflix.spinnaker.orca.jackson.OrcaObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.HashMap;
import java.util.Map;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/**
 * The stages that act on a cluster are not published as jars. Here each hands its evaluated context to a stand-in for
 * Clouddriver, at the address in CLOUDDRIVER_URL, and ends as that says.
 */
@Configuration
class ClouddriverStages {
  @Bean StageDefinitionBuilder deployManifest() { return new Stage("deployManifest"); }

  @Bean StageDefinitionBuilder findArtifactsFromResource() { return new Stage("findArtifactsFromResource"); }

  @Bean StageDefinitionBuilder patchManifest() { return new Stage("patchManifest"); }

  @Bean StageDefinitionBuilder undoRolloutManifest() { return new Stage("undoRolloutManifest"); }

  @Bean StageDefinitionBuilder scaleManifest() { return new Stage("scaleManifest"); }

  @Bean AskClouddriver askClouddriver() { return new AskClouddriver(); }

  static class Stage implements StageDefinitionBuilder {
    private final String type;

    Stage(String type) { this.type = type; }

    @Override
    public String getType() { return type; }

    @Override
    public void taskGraph(StageExecution stage, TaskNode.Builder builder) {
      builder.withTask(type, AskClouddriver.class);
    }
  }

  static class AskClouddriver implements Task {
    private final ObjectMapper mapper = OrcaObjectMapper.getInstance();
    private final HttpClient http = HttpClient.newBuilder().proxy(HttpClient.Builder.NO_PROXY).build();

    @Override
    @SuppressWarnings("unchecked")
    public TaskResult execute(StageExecution stage) {
      try {
        URI address = URI.create(System.getenv("CLOUDDRIVER_URL") + "/" + stage.getType());
        Map<String, Object> asked =
            Map.of("run", stage.getExecution().getId(), "context", new HashMap<>(stage.getContext()));
        HttpRequest request =
            HttpRequest.newBuilder(address)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(mapper.writeValueAsString(asked)))
                .build();
        String body = http.send(request, HttpResponse.BodyHandlers.ofString()).body();
        Map<String, Object> answer = mapper.readValue(body, Map.class);
        return TaskResult.builder(ExecutionStatus.valueOf((String) answer.get("status")))
            .context((Map<String, Object>) answer.getOrDefault("context", Map.of()))
            .outputs((Map<String, Object>) answer.getOrDefault("outputs", Map.of()))
            .build();
      } catch (IOException e) {
        throw new RuntimeException(e);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new RuntimeException(e);
      }
    }
  }
}
