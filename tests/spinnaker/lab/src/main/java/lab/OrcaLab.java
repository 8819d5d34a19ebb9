package lab;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.netflix.spinnaker.fiat.shared.EnableFiatAutoConfig;
import com.netflix.spinnaker.filters.AuthenticatedRequestFilter;
import com.netflix.spinnaker.kork.boot.DefaultPropertiesBuilder;
import com.netflix.spinnaker.orca.api.pipeline.models.ExecutionType;
import com.netflix.spinnaker.orca.api.pipeline.models.Trigger;
import com.netflix.spinnaker.orca.config.OrcaConfiguration;
import com.netflix.spinnaker.orca.config.RedisConfiguration;
import com.netflix.spinnaker.orca.jackson.OrcaObjectMapper;
import com.netflix.spinnaker.orca.pipeline.ExecutionLauncher;
import com.netflix.spinnaker.orca.pipeline.persistence.ExecutionRepository;
import com.netflix.spinnaker.orca.pipeline.util.ArtifactUtils;
import com.netflix.spinnaker.orca.pipeline.util.ContextParameterProcessor;
import java.util.*;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.groovy.template.GroovyTemplateAutoConfiguration;
import org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.annotation.*;
import org.springframework.core.Ordered;
import org.springframework.web.bind.annotation.*;

/** The engine of Orca from its published jars, behind the two calls that a test needs. */
@EnableFiatAutoConfig
@Import({OrcaConfiguration.class, RedisConfiguration.class, OrcaLab.Web.class, ClouddriverStages.class})
@SpringBootApplication(
    scanBasePackages = "com.netflix.spinnaker.config",
    exclude = {GroovyTemplateAutoConfiguration.class, DataSourceAutoConfiguration.class})
public class OrcaLab {
  public static void main(String[] args) throws Exception {
    SpringApplicationBuilder b =
        new SpringApplicationBuilder()
            .properties(
                new DefaultPropertiesBuilder().property("spring.application.name", "orca").build())
            .sources(OrcaLab.class);
    b.run(args);
  }

  @Bean
  FilterRegistrationBean<AuthenticatedRequestFilter> authenticatedRequestFilter() {
    FilterRegistrationBean<AuthenticatedRequestFilter> f =
        new FilterRegistrationBean<>(new AuthenticatedRequestFilter(true));
    f.setOrder(Ordered.HIGHEST_PRECEDENCE);
    return f;
  }

  @RestController
  static class Web {
    private final ExecutionLauncher launcher;
    private final ExecutionRepository repository;
    private final ContextParameterProcessor expressions;
    private final ArtifactUtils artifacts;
    private final ObjectMapper mapper = OrcaObjectMapper.getInstance();

    Web(ExecutionLauncher l, ExecutionRepository r, ContextParameterProcessor e, ArtifactUtils a) {
      launcher = l; repository = r; expressions = e; artifacts = a;
    }

    @PostMapping("/orchestrate")
    @SuppressWarnings("unchecked")
    Map<String, Object> orchestrate(@RequestBody Map<String, Object> pipeline) {
      Map<String, Object> trigger = (Map<String, Object>) pipeline.computeIfAbsent("trigger", k -> new HashMap<>());
      trigger.putIfAbsent("type", "manual");
      trigger.putIfAbsent("user", "[anonymous]");
      Map<String, Object> parameters = (Map<String, Object>) trigger.computeIfAbsent("parameters", k -> new HashMap<>());
      for (Map<String, Object> p : (List<Map<String, Object>>) pipeline.getOrDefault("parameterConfig", List.of()))
        parameters.putIfAbsent((String) p.get("name"), p.get("default"));
      artifacts.resolveArtifacts(pipeline);
      Map<String, Object> context = new HashMap<>();
      context.put("trigger", pipeline.get("trigger"));
      context.put("templateVariables", Map.of());
      Map<String, Object> done = expressions.processPipeline(pipeline, context, false);
      done.put("trigger", mapper.convertValue(done.get("trigger"), Trigger.class));
      try {
        return Map.of("ref", "/pipelines/" + launcher.start(ExecutionType.PIPELINE, done).getId());
      } catch (Exception e) {
        throw new RuntimeException(e);
      }
    }

    @GetMapping("/pipelines/{id}")
    Object pipeline(@PathVariable String id) {
      return repository.retrieve(ExecutionType.PIPELINE, id);
    }
  }
}
