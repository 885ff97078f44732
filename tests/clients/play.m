% Plays float32 poses to a daemon, frame by frame, and writes the probabilities of its answers: see test_clients.py.
pkg load zeromq
arguments = argv();
[address, stream, animals, keypoints, poses, probs] = arguments{end - 5:end};
animals = strsplit(animals, ','); keypoints = strsplit(keypoints, ',');
n_animals = numel(animals); n_points = numel(keypoints);
file = fopen(poses, 'r'); values = fread(file, inf, 'single=>single'); fclose(file);
values = reshape(values, 3 * n_animals * n_points, []);
client = rtseg_client('open', address, stream, animals, keypoints, 30);
file = fopen(probs, 'w');
for t = 1:columns(values)
  xy = reshape(values(1:2 * n_animals * n_points, t), 2, n_points, n_animals);
  conf = reshape(values(2 * n_animals * n_points + 1:end, t), n_points, n_animals)';
  client = rtseg_client('send', client, permute(xy, [3 2 1]), conf);
  do
    answer = rtseg_client('receive', client, 60000);
  until ~isfield(answer, 'type')
  for head = fieldnames(answer.probs)'
    fwrite(file, answer.probs.(head{1}), 'single');
  end
end
fclose(file);
rtseg_client('close', client);
