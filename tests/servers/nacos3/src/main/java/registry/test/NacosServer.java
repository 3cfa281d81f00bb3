package registry.test;

import com.alibaba.nacos.NacosServerBasicApplication;
import com.alibaba.nacos.NacosServerWebApplication;
import com.alibaba.nacos.core.listener.startup.NacosStartUp;
import com.alibaba.nacos.core.listener.startup.NacosStartUpManager;
import com.alibaba.nacos.sys.env.DeploymentType;
import com.alibaba.nacos.sys.env.EnvUtil;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;

/** Nacos 3 without its console: the core, and the web API on top of it. */
public final class NacosServer {
    private NacosServer() {
    }

    public static void main(String[] arguments) {
        EnvUtil.setDeploymentType(DeploymentType.SERVER);

        // Each phase has to be announced before its application starts: Nacos' listeners ask which one it is.
        NacosStartUpManager.start(NacosStartUp.CORE_START_UP_PHASE);
        ConfigurableApplicationContext core = new SpringApplicationBuilder(NacosServerBasicApplication.class)
                .web(WebApplicationType.NONE)
                .run(arguments);

        NacosStartUpManager.start(NacosStartUp.WEB_START_UP_PHASE);
        new SpringApplicationBuilder(NacosServerWebApplication.class).parent(core).run(arguments);

        // For the making of class data: see xtask/src/servers/maven.rs.
        if (Boolean.getBoolean("registry.test.exit")) {
            System.exit(0);
        }
    }
}
