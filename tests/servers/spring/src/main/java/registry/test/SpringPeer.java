package registry.test;

import java.util.List;
import java.util.Map;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.client.ServiceInstance;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.cloud.client.loadbalancer.LoadBalanced;
import org.springframework.context.annotation.Bean;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestClient;

/** A Spring application as others have them: it registers itself, and calls services by their names. */
@SpringBootApplication
public class SpringPeer {
    public static void main(String[] arguments) {
        SpringApplication.run(SpringPeer.class, arguments);

        // For the making of class data: see xtask/src/servers/maven.rs.
        if (Boolean.getBoolean("registry.test.exit")) {
            System.exit(0);
        }
    }

    @Bean
    @LoadBalanced
    public RestClient.Builder balanced() {
        return RestClient.builder();
    }

    /** What tests ask. */
    @RestController
    public static class Endpoints {
        private final String name;
        private final DiscoveryClient discovery;
        private final RestClient client;

        public Endpoints(
                @Value("${spring.application.name}") String name,
                DiscoveryClient discovery,
                RestClient.Builder balanced) {
            this.name = name;
            this.discovery = discovery;
            this.client = balanced.build();
        }

        /** Who answers. */
        @GetMapping("/whoami")
        public Map<String, String> whoami() {
            return Map.of("name", name);
        }

        /** Calls an instance of a service and hands over its answer. */
        @GetMapping("/call/{service}")
        public String call(@PathVariable String service, @RequestParam(defaultValue = "/") String path) {
            return client.get().uri("http://" + service + path).retrieve().body(String.class);
        }

        /** The instances of a service as Spring sees them. */
        @GetMapping("/instances/{service}")
        public List<Map<String, Object>> instances(@PathVariable String service) {
            return discovery.getInstances(service).stream().map(Endpoints::describe).toList();
        }

        private static Map<String, Object> describe(ServiceInstance instance) {
            return Map.of(
                    "id", String.valueOf(instance.getInstanceId()),
                    "uri", instance.getUri().toString(),
                    "secure", instance.isSecure(),
                    "metadata", instance.getMetadata());
        }
    }
}
