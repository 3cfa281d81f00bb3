package registry.test;

import com.alibaba.nacos.core.code.ControllerMethodsCache;
import com.alibaba.nacos.sys.filter.NacosTypeExcludeFilter;
import java.util.List;
import org.springframework.beans.factory.InitializingBean;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.AutoConfigurationExcludeFilter;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.servlet.ServletComponentScan;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.ComponentScan;
import org.springframework.context.annotation.FilterType;
import org.springframework.scheduling.annotation.EnableScheduling;

/** Nacos 2.5 without its console. */
@SpringBootApplication
@ComponentScan(
        basePackages = "com.alibaba.nacos",
        excludeFilters = @ComponentScan.Filter(
                type = FilterType.CUSTOM,
                classes = {NacosTypeExcludeFilter.class, AutoConfigurationExcludeFilter.class}))
@ServletComponentScan("com.alibaba.nacos")
@EnableScheduling
public class NacosServer {
    /** Where requests are handled. */
    private static final List<String> CONTROLLERS = List.of(
            "com.alibaba.nacos.core.controller",
            "com.alibaba.nacos.naming.controllers",
            "com.alibaba.nacos.config.server.controller",
            "com.alibaba.nacos.plugin.auth.impl.controller");

    public static void main(String[] arguments) {
        SpringApplication.run(NacosServer.class, arguments);

        // For the making of class data: see xtask/src/servers/maven.rs.
        if (Boolean.getBoolean("registry.test.exit")) {
            System.exit(0);
        }
    }

    /** The console does this where there is one: a filter answers 501 to what is not in this table. */
    @Bean
    public InitializingBean knownControllers(ControllerMethodsCache methods) {
        return () -> CONTROLLERS.forEach(methods::initClassMethod);
    }
}
