package registry.test;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;

/** The Eureka server as everybody runs it: nothing but the starter. Its settings come as a file at the start. */
@SpringBootApplication
@EnableEurekaServer
public class EurekaServer {
    public static void main(String[] arguments) {
        SpringApplication.run(EurekaServer.class, arguments);

        // For the making of class data: see xtask/src/servers/maven.rs.
        if (Boolean.getBoolean("registry.test.exit")) {
            System.exit(0);
        }
    }
}
