# Reads and a write as a small script does them with Net::HTTP: ruby_reads.rb URL TOKEN
require "json"
require "net/http"

url, token = ARGV

def told(message, uri)
  reply = Net::HTTP.start(uri.hostname, uri.port, use_ssl: uri.scheme == "https", read_timeout: 30) do |http|
    http.request(message)
  end
  body = JSON.parse(reply.body)
  puts JSON.generate([reply.code.to_i, reply["Content-Type"], body])
  body
end

def read(target, fields = {})
  uri = URI(target)
  told(Net::HTTP::Get.new(uri, fields), uri)
end

query = URI.encode_www_form(access_token: token)
page = read("#{url}/v25.0/act_1/campaigns?limit=4&#{query}")
while (following = page.dig("paging", "next"))
  page = read(following)
end
2.times { read("#{url}/v25.0/1001", "Authorization" => "Bearer #{token}") }
read("#{url}/v25.0/404001?#{query}")
uri = URI("#{url}/v25.0/1001")
write = Net::HTTP::Post.new(uri)
write.set_form_data(name: "new", access_token: token)
told(write, uri)
