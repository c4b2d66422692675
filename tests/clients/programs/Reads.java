// Reads and a write as a small program does them, by HttpClient and by HttpURLConnection: Reads.java URL TOKEN
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Reads {
    private static final Pattern NEXT = Pattern.compile("\"next\": *\"([^\"]*)\"");
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static boolean byClient;

    public static void main(String[] arguments) throws Exception {
        for (boolean way : new boolean[] {true, false}) {
            byClient = way;
            readAndWrite(arguments[0], "Bearer " + arguments[1], URLEncoder.encode(arguments[1], StandardCharsets.UTF_8));
        }
    }

    private static void readAndWrite(String url, String bearer, String token) throws Exception {
        String page = url + "/v25.0/act_1/campaigns?limit=4&access_token=" + token;
        while (page != null) {
            Matcher found = NEXT.matcher(told(page, null, null));
            page = found.find() ? found.group(1).replace("\\/", "/").replace("\\u0025", "%") : null;
        }
        for (int each = 0; each < 2; each++) {
            told(url + "/v25.0/1001", bearer, null);
        }
        told(url + "/v25.0/404001?access_token=" + token, null, null);
        told(url + "/v25.0/1001", null, "name=new&access_token=" + token);
    }

    private static String told(String target, String bearer, String form) throws Exception {
        return byClient ? byClient(target, bearer, form) : byConnection(target, bearer, form);
    }

    private static String byClient(String target, String bearer, String form) throws Exception {
        HttpRequest.Builder message = HttpRequest.newBuilder(URI.create(target));
        if (bearer != null) {
            message.header("Authorization", bearer);
        }
        if (form != null) {
            message.header("Content-Type", "application/x-www-form-urlencoded");
            message.POST(HttpRequest.BodyPublishers.ofString(form));
        }
        HttpResponse<String> reply = CLIENT.send(message.build(), HttpResponse.BodyHandlers.ofString());
        return print(reply.statusCode(), reply.headers().firstValue("Content-Type").orElse(""), reply.body());
    }

    private static String byConnection(String target, String bearer, String form) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) new URL(target).openConnection();
        connection.setReadTimeout(30_000);
        if (bearer != null) {
            connection.setRequestProperty("Authorization", bearer);
        }
        if (form != null) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(form.getBytes(StandardCharsets.UTF_8));
        }
        int status = connection.getResponseCode();
        try (InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return print(status, connection.getContentType(), new String(body.readAllBytes(), StandardCharsets.UTF_8));
        }
    }

    private static String print(int status, String type, String body) {
        System.out.println("[" + status + ",\"" + type + "\"," + body + "]");
        return body;
    }
}
