<?php
// Reads and a write as a small script does them with PHP's curl: php_reads.php URL TOKEN
[, $url, $token] = $argv;
$curl = curl_init();

function tell(string $target, array $options = []): array
{
    global $curl;
    curl_reset($curl);
    curl_setopt_array($curl, [CURLOPT_URL => $target, CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 30] + $options);
    $text = curl_exec($curl);
    if ($text === false) {
        fwrite(STDERR, curl_error($curl) . "\n");
        exit(1);
    }
    $told = [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), curl_getinfo($curl, CURLINFO_CONTENT_TYPE), json_decode($text)];
    echo json_encode($told, JSON_UNESCAPED_SLASHES), "\n";
    return json_decode($text, true);
}

$page = tell("$url/v25.0/act_1/campaigns?" . http_build_query(['limit' => 4, 'access_token' => $token]));
while (isset($page['paging']['next'])) {
    $page = tell($page['paging']['next']);
}
for ($each = 0; $each < 2; $each++) {
    tell("$url/v25.0/1001", [CURLOPT_HTTPHEADER => ["Authorization: Bearer $token"]]);
}
tell("$url/v25.0/404001?" . http_build_query(['access_token' => $token]));
tell("$url/v25.0/1001", [CURLOPT_POSTFIELDS => http_build_query(['name' => 'new', 'access_token' => $token])]);
