# Reads and a write as a shell script does them with curl: curl_reads.sh URL TOKEN
set -eu
url=$1 token=$2

tell() { # prints [status, type, body]
  curl --silent --show-error --max-time 30 --output body --write-out '[%{http_code},"%{content_type}",' "$@"
  cat body
  echo ']'
}

next_page() {
  sed -n 's/.*"next": *"\([^"]*\)".*/\1/p' body | sed 's,\\/,/,g; s,\\u0025,%,g'
}

page="$url/v25.0/act_1/campaigns?limit=4&access_token=$token"
while [ -n "$page" ]; do
  tell --globoff "$page"
  page=$(next_page)
done
tell --header "Authorization: Bearer $token" "$url/v25.0/1001"
tell --header "Authorization: Bearer $token" "$url/v25.0/1001"
tell --get --data-urlencode "access_token=$token" "$url/v25.0/404001"
tell --data name=new --data-urlencode "access_token=$token" "$url/v25.0/1001"
